"""Accuracy by class, beside that of the best unimodal strategy."""

import numpy as np

from fusion_bench.metrics.classification import class_accuracy
from fusion_bench.report.findings import Findings, mean_interval
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, Bars, Panel, Picture, Points


def picture(found: Findings) -> Picture:
    """Returns a panel for each strategy that has logits, for the page alone."""
    x, y = Axis(names=found.class_names), Axis("accuracy, %", (0.0, 101.0))
    places, panels = np.arange(len(found.class_names), dtype=float), {}
    means = {}
    for strategy, tests in found.tests.items():
        means[strategy], width = mean_interval([100 * class_accuracy(*test) for test in tests])
        bars = Bars(places, means[strategy], 0.8, (BLUE, 0.9), "chosen strategy", width)
        panels[strategy] = Panel([bars], x, y)
    best = found.best
    return Picture(
        "classes", "Accuracy by class",
        f"Percentage of each class's test examples that are right, mean over {found.seeds_text(panels)}; error bars: "
        "95 % interval over seeds (Student's t), separately for each class.",
        panels, [Points(places, means[best], found.families[best], label=best)] if best in means else [], "strategy",
        paper=(), height=400,
    )  # fmt: skip
