"""How much does a strategy gain from few examples?

    python experiments/ablations/data_size.py [--out DIR] [--data cifar10 --data-dir DIR --train-size 50000] [--quick]

From 1 % to 100 % of the training set, with about the same number of updates at every size: fewer examples are trained
on for more epochs. The best epoch is chosen on a tenth of the examples, which is few at 1 %.

Found on shapes (tiny, 2,000 images to test, n = 5 seeds, commit 5686f9fefc): below 3,000 examples a second modality
harms all jointly trained strategies. With 1,000, image-only has 79.6 %, late-mean 72.2, early-channel 68.6, concat
63.0 and tensor 27.3, while late-posthoc, whose models are trained separately, has 83.2. From 3,000 on all but
early-token are above image-only. With 300, late-posthoc is the only one not below it.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import pictures
from sweep import Scale, Sweep, by_strategy, main

from fusion_bench.config import BenchmarkConfig

FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
LARGEST = 10_000
"""Examples for training and validation at the last point, where --train-size names no other number."""


def points(scale: Scale) -> dict[int, BenchmarkConfig]:
    found = {}
    for fraction in FRACTIONS:
        size = round(fraction * (scale.train_size or LARGEST))
        part = dataclasses.replace(scale, train_size=size, epochs=round(scale.epochs / fraction))
        found[size] = part.study(f"train-{size}")
    return found


SWEEP = Sweep(
    points,
    by_strategy("accuracy, %, by examples"),
    Scale(Path("runs/data-size")),
    draw=functools.partial(pictures.lines, label="examples for training and validation", log=True),
    note="Grey: the exact ceilings and the Bayes reference.",
)

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
