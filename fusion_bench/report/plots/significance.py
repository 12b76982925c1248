"""The p-value of every pair of strategies."""

import math

import numpy as np

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import LEVELS
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture
from fusion_bench.report.text import points

_TEXTS_UP_TO = 14
"""Strategies; the cells of more are too small for numbers."""


def picture(found: Findings) -> Picture | None:
    """Returns strategies by accuracy, the best first, and a cell for each pair."""
    strategies, differences, p_values = found.matrix
    size = len(strategies)
    if size < 2 or np.isnan(p_values).all():
        return None
    pairs = np.where(np.tri(size, k=-1, dtype=bool), p_values, math.nan)[1:, :-1]
    levels = sum((pairs < bound).astype(float) for bound, _ in [*LEVELS.values()][1:])
    hover = [
        [
            f"{column} over {row}\n{points(float(differences[j, i]))} points, p = {p_values[i, j]:.3g}"
            for j, column in enumerate(strategies[:-1])
        ]
        for i, row in enumerate(strategies)
    ]
    cells = HeatMap(
        np.where(np.isnan(pairs), math.nan, levels),
        [shade for _, shade in LEVELS.values()],
        (-0.5, len(LEVELS) - 0.5),
        is_stepped=True,
        texts=[[_short(p) for p in row] for row in pairs] if size <= _TEXTS_UP_TO else (),
        hover=hover[1:],
        legend=[*LEVELS],
    )
    side = min(6.9, max(3.6, 1.6 + 0.2 * size))
    return Picture(
        "significance",
        "Significant differences",
        f"p of the paired t-test on test accuracy over {found.said_of(strategies)}, Holm-corrected over all "
        f"{size * (size - 1) // 2} pairs. Strategies by mean accuracy, the best first.",
        {"": Panel([cells], Axis(names=tuple(strategies[:-1])), Axis(names=tuple(strategies[1:])))},
        size=(side, side),
        height=200 + 19 * size,
        is_wide=size > 12,
    )


def _short(p: float) -> str:
    return "" if math.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
