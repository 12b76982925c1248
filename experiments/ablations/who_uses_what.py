"""Which strategy uses which information of the data?

    python experiments/ablations/who_uses_what.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

For each caption channel the information about the target is known exactly, in its four parts: told by image and
caption alike, by one alone, only by both together. Beside it stand the bits of each kind that a strategy's predictions
depend on, right or wrong, which are no part of those about the target; the accuracy that it loses without interactions
of the modalities (EMAP gap); and the modalities' Shapley values.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sweep import Scale, Sweep, bits, cell, main

from fusion_bench.config import BenchmarkConfig
from fusion_bench.families import MULTIMODAL
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.plots.bits import stacked
from fusion_bench.report.plots.marks import Panel, Picture

CHANNELS = ("default", "contrast", "coarse", "synergy", "mixed")
PARTS = ("redundant", "unique_image", "unique_text", "synergistic")


def points(scale: Scale) -> dict[str, BenchmarkConfig]:
    return {channel: scale.study(channel, captions=channel) for channel in CHANNELS}


def untreated(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of trained strategies without a remedy, in a frame with all values of diagnostics."""
    is_trained = frame["family"].isin((*MULTIMODAL, "unimodal")) & (frame["n_seeds"] > 0)
    keep = is_trained & ~frame["strategy"].str.contains("+", regex=False)
    columns = [f"bits_{of}_{part}_mean" for of in ("data", "image_model", "used") for part in PARTS]
    return frame.loc[keep].reindex(columns=[*frame, *(name for name in columns if name not in frame)])


def table(frame: pd.DataFrame) -> str:
    """Returns a block of rows for each channel: the data, then the strategies."""
    header = ["captions", "strategy", "accuracy, %", *(part.replace("_", " ") for part in PARTS)]
    header += ["EMAP gap", "Shapley image", "Shapley text"]
    lines = []
    for x, rows in untreated(frame).groupby("x", sort=False):
        for of, name in (("data", "bits in the data"), ("image_model", "bits left by the image model")):
            known = rows[[f"bits_{of}_{part}_mean" for part in PARTS]].mean()
            lines.append([str(x), f"*{name}*", "", *("–" if np.isnan(v) else f"{v:.3f}" for v in known), "", "", ""])
        for row in rows.to_dict("records"):
            used = [bits(row, f"bits_used_{part}") for part in PARTS]
            rest = [cell(row, name) for name in ("emap_gap", "shapley_image", "shapley_text")]
            lines.append([str(x), str(row["strategy"]), cell(row), *used, *rest])
    return markdown_table(header, lines, "ll" + "r" * (len(header) - 2))


def draw(frame: pd.DataFrame, note: str) -> Picture:
    """Returns stacked bars of bits, a panel for each channel."""
    panels: dict[str, Panel] = {}
    for x, rows in untreated(frame).groupby("x", sort=False):
        names = ("data: a perfect image model", "data: this image model", *rows["strategy"])
        values = {
            part: np.array(
                [
                    rows[f"bits_data_{part}_mean"].mean(),
                    rows[f"bits_image_model_{part}_mean"].mean(),
                    *rows[f"bits_used_{part}_mean"],
                ]
            )
            for part in PARTS
        }
        panels[str(x)] = stacked(names, values)
    note = f"Bits about the target in the data, and about each strategy's predictions. {note}"
    return Picture("figure", "", note, panels, size=(3.45, 1.0 + 0.155 * len(names)), columns=2)


def remarks(frame: pd.DataFrame, scale: Scale) -> list[str]:
    """Returns a line for each channel: whose predictions depend most and least on each part that the data have."""
    lines = []
    for x, rows in untreated(frame).groupby("x", sort=False):
        found = []
        for part in PARTS:
            used = rows.set_index("strategy")[f"bits_used_{part}_mean"].dropna()
            there = float(np.mean(rows[f"bits_data_{part}_mean"]))
            if len(used) and there > 0.01:
                high, low = used.idxmax(), used.idxmin()
                words = part.replace("_", " ")
                found.append(f"{words}: {high} {used[high]:.2f}, {low} {used[low]:.2f}")
        text = f"`{x}`, bits that predictions depend on, the most and the least: {'; '.join(found)}."
        lines += [text] if found else []
    return lines


SWEEP = Sweep(
    points, table, Scale(Path("runs/who-uses-what"), epochs=6), draw,
    diagnostics=("missing-modality", "emap", "pid"), remarks=remarks,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(SWEEP, __doc__))
