"""Confusion matrix of each strategy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fusion_bench.metrics.classification import confusion_matrix
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture

SHOWN = 30
"""Classes; of more, these many are shown, whose names can be read."""
_TEXTS_UP_TO = 12
"""Classes; the cells of more are too small for numbers."""


def picture(found: Findings) -> Picture:
    """Returns a panel for each strategy that has logits, printed to a file each."""
    counts = {name: np.sum([confusion_matrix(*test) for test in tests], axis=0) for name, tests in found.tests.items()}
    shown, names = most_confused(np.sum([*counts.values()], axis=0), SHOWN), np.array(found.class_names)
    is_part = len(shown) < len(names)
    rows = [str(name) for name in names[shown]]
    columns = [*rows, *(["all others"] if is_part else [])]
    panels = {strategy: _panel(_part(of, shown), rows, columns) for strategy, of in counts.items()}
    part = f" Of {len(names):,} classes, the {SHOWN} in the pairs with most confusions over all strategies."
    side = 3.3 if len(rows) <= 20 else 4.2
    return Picture(
        "confusion", "Confusion matrix",
        f"Percentage of each class's test examples by predicted class, mean over {found.seeds_text(panels)}."
        + part * is_part,
        panels, chooser="strategy", size=(side, side), height=max(480, 250 + 15 * len(rows)), is_separate=True,
    )  # fmt: skip


def most_confused(counts: Int[np.ndarray, "class class"], limit: int) -> Int[np.ndarray, " shown"]:
    """Returns the classes in the pairs with most confusions, or all of them, in their order; rows are the true ones."""
    if len(counts) <= limit:
        return np.arange(len(counts))
    confusions = counts + counts.T
    np.fill_diagonal(confusions, 0)
    return np.sort(np.argsort(-confusions.max(axis=1), kind="stable")[:limit])


def _part(counts: Int[np.ndarray, "class class"], shown: Int[np.ndarray, " shown"]) -> Float[np.ndarray, "row column"]:
    """Returns percentages of the classes that are shown, with a column for all others if there are any."""
    totals, part = counts.sum(axis=1)[shown, None], counts[np.ix_(shown, shown)]
    if len(shown) < len(counts):
        part = np.hstack([part, totals - part.sum(axis=1, keepdims=True)])
    return np.where(totals > 0, 100 * part / np.maximum(totals, 1), np.nan)


def _panel(cells: Float[np.ndarray, "row column"], rows: Sequence[str], columns: Sequence[str]) -> Panel:
    hover = [
        [f"{name} predicted as {other}\n{cell:.1f} %" for other, cell in zip(columns, row, strict=True)]
        for name, row in zip(rows, cells, strict=True)
    ]
    texts = [[f"{cell:.0f}" if cell >= 0.5 else "" for cell in row] for row in cells]
    shown = texts if len(rows) <= _TEXTS_UP_TO else ()
    scale = [(0.0, (BLUE, 0.0)), (1.0, (BLUE, 0.9))]
    x, y = Axis("predicted class", names=tuple(columns)), Axis("class", names=tuple(rows))
    return Panel([HeatMap(cells, scale, (0.0, 100.0), texts=shown, hover=hover)], x, y)
