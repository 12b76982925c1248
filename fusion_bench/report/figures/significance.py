"""Which of two strategies is better: the p-value of every pair."""

import math
from typing import TYPE_CHECKING

import numpy as np

from fusion_bench.report.figures.canvas import INK, PAGE, annotate, canvas
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import LEVELS, UNDECIDED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERS_UP_TO = 14
"""Strategies; the cells of more are too small for numbers."""


def draw(found: Findings) -> "Figure | None":
    """Returns the figure: strategies by accuracy, the best first; a cell for every two."""
    matrix, size = found.matrix, len(found.matrix.strategies)
    if size < 2 or np.isnan(matrix.p_values).all():
        return None
    from matplotlib.patches import Patch, Rectangle

    side = min(PAGE, max(3.3, 1.6 + 0.2 * size))
    figure = canvas(side, side + 0.1)
    axes = figure.subplots()
    for row in range(1, size):
        for column in range(row):
            p = float(matrix.p_values[row, column])
            axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=colour(p), linewidth=0))
            if size <= _NUMBERS_UP_TO and not math.isnan(p):
                dark = p < LEVELS[1][0]
                text = "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
                axes.text(column, row, text, ha="center", va="center", size=5.5, color="w" if dark else INK)
    axes.set(xlim=(-0.6, size - 1.4), ylim=(size - 0.4, 0.4), aspect="equal")
    axes.set_xticks(range(size - 1), matrix.strategies[:-1], rotation=90)
    axes.set_yticks(range(1, size), matrix.strategies[1:])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    handles = [Patch(color=shade, label=f"p < {bound:g}") for bound, shade in LEVELS]
    handles.append(Patch(color=UNDECIDED, label="p ≥ 0.05: not decided"))
    axes.legend(handles=handles, loc="upper right", title="column better than row")
    annotate(
        figure,
        f"p of the paired t-test on test accuracy over {found.said_of(matrix.strategies)}, Holm-corrected over all "
        f"{size * (size - 1) // 2} pairs; strategies by mean accuracy, the best first. {found.title}.",
    )
    return figure


def colour(p_value: float) -> str:
    """Returns the colour of a p-value; white where there is none."""
    if math.isnan(p_value):
        return "#ffffff"
    return next((shade for bound, shade in LEVELS if p_value < bound), UNDECIDED)
