"""Reliability: accuracy by confidence, of the best strategy of each family."""

import math
from typing import TYPE_CHECKING

import numpy as np

from fusion_bench.report.figures.canvas import INK, PAGE, PALE, annotate, canvas, in_percent
from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import percent
from fusion_bench.report.palette import LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(found: Findings) -> "Figure | None":
    """Returns the figure, a panel for each family's best strategy on validation and the reference."""
    references = [strategy for strategy, family in found.families.items() if family == "reference"]
    shown = [strategy for strategy in (*found.leaders, *references) if strategy in found.diagnoses]
    if not shown:
        return None
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = canvas(PAGE * columns / 3, 0.75 + 2.15 * rows)
    panels = [*figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat]
    for axes, strategy in zip(panels, shown, strict=False):
        _panel(axes, found, strategy)
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(shown))
        if place % columns == 0:
            axes.set_ylabel("accuracy, %")
        if place + columns >= len(shown):
            axes.set_xlabel("confidence, %")
            axes.xaxis.set_tick_params(labelbottom=True)
    annotate(
        figure,
        f"The best of each family on validation; test examples of all seeds, {found.said_of(shown)}, in 15 bins of "
        "confidence. Below: the part of the examples in each bin. ECE: expected calibration error, points, mean over "
        f"seeds ± 95 % interval. {found.title}.",
    )
    return figure


def _panel(axes: "Axes", found: Findings, strategy: str) -> None:
    family, diagnosis = found.families[strategy], found.diagnoses[strategy]
    look, bins = LOOKS[family], diagnosis.calibration
    known = bins.count > 0
    width = 1 / len(bins.count)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.7, linestyle=":")
    centres = (np.arange(len(bins.count)) + 0.5) * width
    axes.bar(centres, 0.3 * bins.count / bins.count.sum(), 0.9 * width, color=PALE, alpha=0.45, linewidth=0)
    axes.plot(
        bins.confidence[known],
        bins.accuracy[known],
        marker=look.marker,
        color=look.colour,
        markersize=3.5,
        markeredgecolor=INK,
        markeredgewidth=0.3,
        linewidth=1.0,
        clip_on=False,
    )
    axes.set_title(f"{strategy}" if family == "reference" else f"{strategy} ({family})")
    axes.text(0.04, 0.95, f"ECE {percent(*diagnosis.calibration_error)}", transform=axes.transAxes, va="top")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    in_percent(axes, "xy")
