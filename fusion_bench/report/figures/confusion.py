"""Which classes a strategy takes for which."""

from typing import TYPE_CHECKING

from fusion_bench.report.figures.canvas import COLUMN, INK, annotate, canvas
from fusion_bench.report.findings import Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERS_UP_TO = 12
"""Classes; the cells of more are too small for numbers."""


def draw(found: Findings, strategy: str) -> "Figure":
    """Returns the figure of one strategy that has logits."""
    matrix = found.diagnoses[strategy].confusion
    size, names = len(matrix), found.class_names
    figure = canvas(COLUMN, COLUMN + 0.35)
    axes = figure.subplots()
    axes.imshow(100 * matrix, cmap="Blues", vmin=0, vmax=100)
    if size <= _NUMBERS_UP_TO:
        for row in range(size):
            for column in range(size):
                if round(100 * matrix[row, column]) > 0:
                    dark = matrix[row, column] > 0.55
                    text = f"{100 * matrix[row, column]:.0f}"
                    axes.text(
                        column, row, text, ha="center", va="center", size=5.5, color="w" if dark else INK
                    )
    axes.set_xticks(range(size), names[:size], rotation=90)
    axes.set_yticks(range(size), names[:size])
    axes.set(xlabel="taken for", ylabel="class", title=strategy)
    axes.tick_params(length=0)
    axes.grid(False)
    annotate(
        figure,
        f"Percent of each class's test examples, mean over {found.said_of([strategy])}. {found.title}.",
    )
    return figure
