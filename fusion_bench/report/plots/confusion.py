"""Confusion matrix of each strategy."""

import numpy as np

from fusion_bench.metrics.classification import confusion_matrix
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture

_TEXTS_UP_TO = 12
"""Classes; the cells of more are too small for numbers."""


def picture(found: Findings) -> Picture:
    """Returns a panel for each strategy that has logits, printed to a file each."""
    names, panels = found.class_names, {}
    x, y = Axis("predicted class", names=names), Axis("class", names=names)
    for strategy, tests in found.tests.items():
        counts = np.sum([confusion_matrix(*test) for test in tests], axis=0)
        totals = counts.sum(axis=1, keepdims=True)
        cells = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
        hover = [
            [f"{name} predicted as {other}\n{cell:.1f} %" for other, cell in zip(names, row, strict=True)]
            for name, row in zip(names, cells, strict=True)
        ]
        texts = [[f"{cell:.0f}" if cell >= 0.5 else "" for cell in row] for row in cells]
        shown = texts if len(names) <= _TEXTS_UP_TO else ()
        scale = [(0.0, (BLUE, 0.0)), (1.0, (BLUE, 0.9))]
        panels[strategy] = Panel([HeatMap(cells, scale, (0.0, 100.0), texts=shown, hover=hover)], x, y)
    return Picture(
        "confusion", "Confusion matrix",
        f"Percentage of each class's test examples by predicted class, mean over {found.seeds_text(panels)}.",
        panels, chooser="strategy", size=(3.3, 3.25), height=480, is_separate=True,
    )  # fmt: skip
