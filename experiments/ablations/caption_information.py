"""How does the accuracy of each strategy grow with the information of the text?

    python experiments/ablations/caption_information.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

A fraction of the captions names the class, from none (`neutral`) to all (`clean`); the others are uninformative. So the
text's bits grow steadily, and the text's ceiling and the Bayes reference are known at every point.

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 10,000 to test), n = 5 seeds, commit 629bed2b64:

- text-only is at its exact ceiling at every point, within 0.15 points: 27.96 of 28, 45.88 of 46, 64.15 of 64, 81.93;
- post-hoc late fusion has the highest mean wherever text and image both count, 0.9 to 1.8 points below the Bayes
  reference; with 0.7 bits late-mean is level with it (57.0 and 57.2 %);
- with uninformative captions image-only has 48.0 %, late-mean 0.5 points less, concat 1.7, early-channel 2.4, tensor
  3.8;
- with 0.7 bits early-channel gains 2.2 points, where concat gains 7.8 and late-posthoc 9.2.
"""

import sys
from pathlib import Path

import pandas as pd
import pictures
from sweep import Scale, Sweep, by_strategy, main

from fusion_bench.config import BenchmarkConfig
from fusion_bench.report.plots.marks import Picture

NAMED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def points(scale: Scale) -> dict[float, BenchmarkConfig]:
    return {named: scale.study(f"named-{named}", captions=f"neutral:named={named}") for named in NAMED}


def bits(frame: pd.DataFrame) -> dict[float, float]:
    """Returns the information of the captions at each point."""
    return dict(zip(frame["x"], frame["bits"], strict=True))


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    each = ", ".join(f"{x}: {found:.2f} bits" for x, found in bits(frame).items())
    return [f"Columns: fraction of the captions that name the class, {each}."]


def draw(frame: pd.DataFrame, note: str) -> Picture:
    place = bits(frame).__getitem__
    return pictures.lines(frame, note, label="bits of the text about the class", place=place, legend=True)


SWEEP = Sweep(
    points, by_strategy("accuracy, %"), Scale(Path("runs/caption-information")), draw=draw, remarks=remarks,
    note="Grey: the exact ceilings and the Bayes reference.",
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
