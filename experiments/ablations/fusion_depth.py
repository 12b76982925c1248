"""At which depth of one CNN should text be fused?

    python experiments/ablations/fusion_depth.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

`mid-channel` concatenates the text to the feature map after stage 0 (the image itself), 1, … up to the last, which only
pooling and the head follow; `concat` is the next step. --strategies has no effect here. The captions add information to
the image (`default`), separate classes that images confuse (`contrast`), or inform only together with it (`synergy`).

Found on CIFAR-10 (JPEG copy; tiny, 5,400 images to train, 6 epochs, 20 with `synergy`; 10,000 to test), n = 5 seeds,
commit 4a3bbd977c: fusion with the image itself is too early, 60.2 and 62.4 % with `default` and `contrast`. After the
first of two stages it has 62.1 and 65.0 %, and later stages gain nothing (62.4 and 64.5 after the last, `concat` 62.6
and 64.5). If only the interaction informs, later is better, up to `concat`: 29.4, 30.6, 32.8 and 37.4 %.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import pandas as pd
import pictures
from sweep import Scale, Sweep, by_strategy, main

from fusion_bench.config import BenchmarkConfig
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.encoders import WIDTHS

CHANNELS = ("default", "contrast", "synergy")
SYNERGY_EPOCHS = 5
"""Factor on the epochs with `synergy` captions, which take longer to learn."""
NOTE = f"Studies with synergy captions have {SYNERGY_EPOCHS} times as many epochs."


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    depths = range(len(WIDTHS[scale.encoder].stages) + 1)
    joins = [StrategySpec("mid-channel", {"depth": depth}) for depth in depths]
    asked = dataclasses.replace(scale, strategies=("image-only", "text-only", *joins, "concat"))
    longer = dataclasses.replace(asked, epochs=SYNERGY_EPOCHS * scale.epochs)
    return {name: (longer if name == "synergy" else asked).study(name, captions=name) for name in CHANNELS}


def by_depth(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows in order of fusion depth; `mid-channel` without an option has depth 1."""
    named = frame.assign(strategy=frame["strategy"].replace("mid-channel", "mid-channel:depth=1"))
    joins = sorted(name for name in set(named["strategy"]) if name.startswith("mid-channel"))
    order = [*joins, "concat"]
    places = [len(order) if row not in order else order.index(row) for row in named["strategy"]]
    unimodal = named["family"] == "unimodal"
    return named.assign(place=places, later=~unimodal).sort_values(
        ["x", "later", "place"], key=lambda column: column.map(CHANNELS.index) if column.name == "x" else column,
        kind="stable",
    ).drop(columns=["place", "later"])  # fmt: skip


SWEEP = Sweep(
    points,
    by_strategy("accuracy, %"),
    Scale(Path("runs/fusion-depth")),
    draw=functools.partial(pictures.dots, label="test accuracy, %", share=False),
    arrange=by_depth,
    remarks=lambda frame, scale: [NOTE],
    note=NOTE,
)

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
