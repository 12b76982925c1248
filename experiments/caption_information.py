"""How does the accuracy of each strategy grow with what the text says?

    python experiments/caption_information.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

A noun of the class is in a part of the captions, from none (`neutral`) to all (`clean`); the rest say nothing. So the
text's bits grow evenly, and at every point the text's ceiling and the Bayes reference are known.

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 10,000 to test), n = 5 seeds, commit 4a3bbd977c:

- text-only is at its exact ceiling at every point, within 0.15 points: 27.95 of 28, 45.88 of 46, 64.13 of 64, 81.91;
- post-hoc late fusion has the highest mean wherever text and image both count, 0.9 to 1.6 points below the Bayes
  reference; with 0.7 bits late-mean is level with it (57.1 and 57.6 %);
- with idle captions image-only has 48.4 %, late-mean 0.9 points less, concat 2.0, early-channel 3.1, tensor 4.0;
- with 0.7 bits early-channel gains 1.6 points, where concat gains 7.6 and late-posthoc 9.2.
"""

import dataclasses
import sys
from pathlib import Path

import ablation
import tyro
from ablation_figures import draw_lines

NAMED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclasses.dataclass(frozen=True)
class Config(ablation.Scale):
    """Accuracy against the information of the captions."""

    out: Path = Path("runs/caption-information")
    """Where runs, table and figure go."""


def main(config: Config) -> int:
    """Runs every point, writes the table and the figure."""
    points = NAMED[::5] if config.quick else NAMED
    frame = ablation.sweep(
        {named: config.config(f"named-{named}", captions=f"neutral:named={named}") for named in points}
    )
    bits = dict(zip(frame["x"], frame["bits"], strict=True))
    heading = "part of the captions that name the class" + "".join(f", {x}: {b:.2f} bits" for x, b in bits.items())
    note = ablation.provenance(frame)
    draw_lines(
        frame,
        config.out / "figure",
        label="bits of the text about the class",
        legend=True,
        place=lambda x: float(bits[x]),
        note=f"Test accuracy as the captions say more; grey: the exact ceilings and the Bayes reference. {note}",
    )
    return ablation.write(
        config.out, frame, f"{ablation.to_markdown(frame, 'accuracy, %')}\n- Columns: {heading}.\n- {note}\n"
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
