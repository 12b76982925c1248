"""Is it the join, or the joint training of the encoders?

    python experiments/ablations/frozen.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

Strategies are trained in three ways: from scratch, end to end; with encoders that start from the unimodal runs of the
same seed (`pretrained`); and with these encoders kept as they are, so that only the join and the head are trained
(`frozen`), as in benchmarks on extracted features. The last is cheap, and is done for all strategies. The captions tell
what the image tells too (`default`), what images make hard (`contrast`), or nothing without the image (`synergy`).
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from sweep import Row, Scale, Sweep, cell, main, rows_of_strategies

from fusion_bench.config import BenchmarkConfig
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import CONFIDENCE
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.plots import matplotlib
from fusion_bench.report.plots.marks import Axis, Mark, Panel, Picture, Points
from fusion_bench.report.text import MISSING

CHANNELS = ("default", "contrast", "synergy")
WAYS = ("none", "pretrained", "frozen")
FILLS = {"none": "full", "pretrained": "left", "frozen": "none"}


def points(scale: Scale) -> dict[str, Sequence[BenchmarkConfig]]:
    """Returns for each channel the study of the strategies that are asked for, and one of all with frozen encoders."""
    found = {}
    for channel in CHANNELS:
        study = dataclasses.replace(scale.study(channel, captions=channel), remedies=WAYS)
        every = study.strategies if scale.quick else ("all",)
        found[channel] = study, dataclasses.replace(study, strategies=every, remedies=("frozen",))
    return found


def table(frame: pd.DataFrame) -> str:
    """Returns a row for each strategy and way, with its accuracy at each channel and its gain over end to end."""
    channels = list(dict.fromkeys(frame["x"]))
    header = ["strategy", "encoders", *(f"{channel}, %" for channel in channels)]
    header += [f"{channel}, effect" for channel in channels]
    names = {"none": "end to end"}
    lines = []
    for label, rows in rows_of_strategies(frame):
        if not any(row["n_seeds"] > 0 or row["family"] == "ceiling" for row in rows.values()):
            continue
        strategy, way = way_of(label)
        cells = [cell(rows[x]) if x in rows else MISSING for x in channels]
        effects = [cell(rows[x], "effect") if x in rows else MISSING for x in channels]
        lines.append([strategy, names.get(way, way), *cells, *effects])
    return markdown_table(header, lines, "ll" + "r" * 2 * len(channels))


def way_of(label: str) -> tuple[str, str]:
    """Returns the strategy of a row's label, and how its encoders were trained."""
    strategy, _, remedy = label.partition("+")
    return strategy, remedy or "none"


def draw(frame: pd.DataFrame, note: str) -> Picture:
    """Returns the strategies with both ways, a panel for each channel; the fill of a marker is the way."""
    joined = frame.loc[frame["family"].isin(MULTIMODAL) & (frame["n_seeds"] > 0)]
    names = tuple(dict.fromkeys(way_of(label)[0] for label in joined["strategy"]))
    panels = {}
    for x, rows in joined.groupby("x", sort=False):
        marks: list[Mark] = []
        for row in rows.to_dict("records"):
            strategy, way = way_of(row["strategy"])
            height = names.index(strategy) + 0.25 * ([*WAYS].index(way) - 1)
            mean, width = 100 * row["test_accuracy_mean"], 100 * row["test_accuracy_ci95"]
            marks.append(Points([mean], [height], row["family"], [width], label=row["family"], fill=FILLS[way]))
        panels[str(x)] = Panel(marks, Axis("test accuracy, %"), Axis(names=names))
    note = f"Full: end to end; half: pretrained; hollow: frozen. {note}"
    size = matplotlib.PAGE / len(panels), 0.8 + 0.2 * len(names)
    return Picture("figure", "", note, panels, size=size, columns=len(panels))


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    """Returns a line for each channel and way: the strategies that gain or lose significantly."""
    lines = []
    for x, rows in frame.groupby("x", sort=False):
        for way in WAYS[1:]:
            compared = rows.loc[rows["effect_mean"].notna()] if "effect_mean" in rows else rows.iloc[:0]
            treated = [row for row in compared.to_dict("records") if way_of(str(row["strategy"]))[1] == way]
            lines.append(f"`{x}`, {way}: {summary(treated)}.")
    lines.append(
        "Effect: over the same strategy trained end to end, paired by seed; p Holm-corrected over the setting."
    )
    return lines


def summary(rows: Sequence[Row]) -> str:
    """Returns which of some treated strategies differ significantly from the untreated ones."""
    parts = []
    for word, sign in (("gain", 1), ("lose", -1)):
        found = [
            f"{str(row['strategy']).partition('+')[0]} {cell(row, 'effect')}"
            for row in rows
            if row.get("effect_p", 1.0) < 1 - CONFIDENCE and sign * row["effect_mean"] > 0
        ]
        parts.append(f"{len(found)} of {len(rows)} {word} significantly" + f" ({', '.join(found)})" * bool(found))
    return "; ".join(parts)


SWEEP = Sweep(points, table, Scale(Path("runs/frozen"), epochs=6), draw, remarks=remarks)

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
