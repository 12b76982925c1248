"""How much does a strategy gain when there is little to learn from?

    python experiments/data_size.py [--out DIR] [--data cifar10 --data-dir DIR --full 50000] [--quick]

From 1 % to 100 % of the training set, with about as many updates at every size as at the full one: the epochs grow as
the examples shrink. The best epoch is chosen on a tenth of the examples, which at 1 % is few.

Found on shapes (tiny, 2,000 images to test, n = 5 seeds, commit 5686f9fefc): below 3,000 examples a second modality
does harm to everything that is trained jointly. With 1,000, image-only has 79.6 %, late-mean 72.2, early-channel
68.6, concat 63.0 and tensor 27.3, while late-posthoc, whose models are trained apart, has 83.2; from 3,000 on all of
them are above image-only but early-token. With 300, late-posthoc is the only one not below it.
"""

import dataclasses
import sys
from pathlib import Path

import ablation
import tyro
from ablation_figures import draw_lines

PARTS = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclasses.dataclass(frozen=True)
class Config(ablation.Scale):
    """Accuracy against the size of the training set."""

    out: Path = Path("runs/data-size")
    """Where runs, table and figure go."""
    full: int = 10_000
    """The largest number of examples for training and validation."""


def main(config: Config) -> int:
    """Runs every size, writes the table and the figure."""
    full = 300 if config.quick else config.full
    parts = (0.5, 1.0) if config.quick else PARTS
    frame = ablation.sweep(
        {
            (size := round(part * full)): config.config(
                f"train-{size}", train_size=size, epochs=round(config.epochs / part)
            )
            for part in parts
        }
    )
    note = ablation.provenance(frame)
    draw_lines(
        frame,
        config.out / "figure",
        label="examples for training and validation",
        log=True,
        note=f"Test accuracy after about equal numbers of updates; grey: ceilings and the Bayes reference. {note}",
    )
    return ablation.write(config.out, frame, f"{ablation.to_markdown(frame, 'accuracy, %, by examples')}\n- {note}\n")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
