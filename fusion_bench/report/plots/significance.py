"""The p-value of every pair of strategies."""

import math
import statistics

import numpy as np

from fusion_bench.metrics.intervals import paired_interval
from fusion_bench.metrics.significance import pairwise_p_values
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import LEVELS
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture
from fusion_bench.report.text import points

_TEXTS_UP_TO = 14
"""Strategies; the cells of more are too small for numbers."""


def picture(found: Findings) -> Picture | None:
    """Returns strategies by mean accuracy, the best first, and a cell for each pair."""
    values = {row.name: row.accuracies for row in found.block.trained if row.accuracies}
    names = sorted(values, key=lambda name: -statistics.fmean(values[name].values()))
    found_p = pairwise_p_values(values, found.block.resolution)
    if all(math.isnan(p) for p in found_p.values()):
        return None
    size = len(names)
    p = np.array(
        [[found_p[a, b] if j <= i else math.nan for j, b in enumerate(names[:-1])] for i, a in enumerate(names[1:])]
    )
    levels = sum((p < bound).astype(float) for bound, _ in [*LEVELS.values()][1:])
    hover = [
        [
            f"{a} over {b}\n{points(paired_interval(values[a], values[b]).mean)} points, "
            f"p = {found_p.get((a, b), math.nan):.3g}"
            for a in names[:-1]
        ]
        for b in names[1:]
    ]
    shades = {label: shade for label, (_, shade) in LEVELS.items()}
    scale = [((i + end) / len(shades), shade) for i, shade in enumerate(shades.values()) for end in (0, 1)]  # steps
    texts = [[_short(cell) for cell in row] for row in p] if size <= _TEXTS_UP_TO else ()
    cells = HeatMap(np.where(np.isnan(p), math.nan, levels), scale, (-0.5, len(shades) - 0.5), texts, hover, shades)
    side = min(6.9, max(3.6, 1.6 + 0.2 * size))
    return Picture(
        "significance", "Significant differences",
        f"p of the paired t-test on test accuracy over {found.seeds_text(names)}, Holm-corrected over all "
        f"{size * (size - 1) // 2} pairs. Strategies by mean accuracy, the best first.",
        {"": Panel([cells], Axis(names=tuple(names[:-1])), Axis(names=tuple(names[1:])))},
        size=(side, side), height=200 + 19 * size, is_wide=size > 12,
    )  # fmt: skip


def _short(p: float) -> str:
    return "" if math.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
