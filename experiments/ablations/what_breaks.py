"""What does each strategy bear: noise in images, dropped words, captions of another channel?

    python experiments/ablations/what_breaks.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

Strategies are trained on clean images with captions of one channel, and tested on corrupted images (the eight
corruptions of CIFAR-10-C that need no files), with words dropped, with a modality missing, and on captions of every
other channel. Beside the accuracy on another channel stand two exact ones: that of the Bayes rule which knows the new
channel, and that of the rule which decides as for the channel of training.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sweep import Scale, Sweep, cell, main

from fusion_bench.config import BenchmarkConfig, Choice
from fusion_bench.families import MULTIMODAL
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture

CHANNELS = ("default", "contrast")
COLUMNS = {
    "clean": "accuracy_clean",
    "corrupted images": "accuracy_corrupted",
    "half of the words dropped": "accuracy_words_dropped_0.5",
    "without image": "accuracy_without_image",
    "without text": "accuracy_without_text",
    "retention, corrupted": "retention_corrupted_image",
}
"""Values of diagnostics by heading."""
ON = "accuracy_on_"


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    return {channel: scale.study(channel, captions=channel) for channel in CHANNELS}


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame["family"].isin((*MULTIMODAL, "unimodal")) & (frame["n_seeds"] > 0)]


def table(frame: pd.DataFrame) -> str:
    """Returns a block of rows for each channel of training."""
    header = ["trained on", "strategy", "test accuracy, %", *(f"{name}, %" for name in COLUMNS)]
    lines = [
        [str(row["x"]), str(row["strategy"]), cell(row), *(cell(row, value) for value in COLUMNS.values())]
        for row in trained(frame).to_dict("records")
    ]
    return markdown_table(header, lines, "ll" + "r" * (len(header) - 2))


def tested_on(frame: pd.DataFrame) -> list[str]:
    """Returns the channels whose captions the models were tested on."""
    return [str(key)[len(ON) : -len("_mean")] for key in frame if re.fullmatch(f"{ON}.+_mean", str(key))]


def draw(frame: pd.DataFrame, note: str) -> Picture:
    """Returns heat maps of the accuracy on each channel, a panel for each channel of training."""
    channels, panels, readers = tested_on(frame), {}, trained(frame)
    if channels:
        readers = readers.dropna(subset=[f"{ON}{channel}_mean" for channel in channels], how="all")
    for x, rows in readers.groupby("x", sort=False):
        references = {"Bayes, channel known": "bayes_on_", "Bayes, channel of training": "mismatched_bayes_on_"}
        cells = [[rows[f"{start}{channel}_mean"].mean() for channel in channels] for start in references.values()]
        cells += rows[[f"{ON}{channel}_mean" for channel in channels]].to_numpy(float).tolist()
        values = 100 * np.array(cells, float).reshape(len(cells), len(channels))
        texts = [["" if np.isnan(value) else f"{value:.0f}" for value in row] for row in values]
        scale = [(0.0, (BLUE, 0.0)), (1.0, (BLUE, 0.9))]
        names = (*references, *rows["strategy"])
        x_axis = Axis("channel of the test captions", names=tuple(channels))
        panels[f"trained on {x}"] = Panel([HeatMap(values, scale, (0.0, 100.0), texts)], x_axis, Axis(names=names))
    size = 3.45, 1.4 + 0.24 * len(names)
    return Picture("figure", "", f"Accuracy, %. {note}", panels, size=size, columns=2, has_key=False)


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    """Returns a line for each channel of training and of test: what was lost, and how much of it was still there."""
    lines = []
    for x, rows in trained(frame).groupby("x", sort=False):
        joined = rows.loc[rows["family"].isin(MULTIMODAL)]
        found = []
        for channel in tested_on(frame):
            best = joined[f"{ON}{channel}_mean"].max()
            known, unaware = (rows[f"{start}{channel}_mean"].mean() for start in ("bayes_on_", "mismatched_bayes_on_"))
            if not np.isnan([best, known, unaware]).any():
                found.append(f"{channel} {100 * known:.0f} / {100 * unaware:.0f} / {100 * best:.0f}")
        if found:
            lines.append(
                f"Trained on `{x}`, accuracy in percent of the Bayes rule that knows the channel / of the rule of "
                f"training / of the best strategy: {', '.join(found)}."
            )
    return lines


SWEEP = Sweep(
    points, table,
    Scale(Path("runs/what-breaks"), epochs=6, strategies=("canonical", "gmu", "attention", "mlb")), draw,
    diagnostics=("missing-modality", Choice("robustness", {"examples": 1000})), remarks=remarks,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
