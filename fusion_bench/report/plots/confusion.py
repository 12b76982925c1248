"""Confusion matrix of each strategy."""

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture

_TEXTS_UP_TO = 12
"""Classes; the cells of more are too small for numbers."""


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each strategy that has logits, printed to a file each."""
    if not found.diagnoses:
        return None
    names = tuple(found.class_names)
    panels = {}
    for strategy, diagnosis in found.diagnoses.items():
        cells = 100 * diagnosis.confusion
        hover = [
            [f"{row} predicted as {column}\n{cells[i, j]:.1f} %" for j, column in enumerate(names)]
            for i, row in enumerate(names)
        ]
        texts = [[f"{cell:.0f}" if round(cell) > 0 else "" for cell in row] for row in cells.round(6)]
        shades = [(BLUE, 0.0), (BLUE, 0.9)]
        marks = [
            HeatMap(
                cells, shades, (0.0, 100.0), texts=texts if len(names) <= _TEXTS_UP_TO else (), hover=hover
            )
        ]
        panels[strategy] = Panel(marks, Axis("predicted class", names=names), Axis("class", names=names))
    return Picture(
        "confusion",
        "Confusion matrix",
        f"Percent of each class's test examples, mean over {found.said_of(found.diagnoses)}.",
        panels,
        chooser="strategy",
        size=(3.3, 3.25),
        height=480,
        is_separate=True,
    )
