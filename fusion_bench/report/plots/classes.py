"""Accuracy by class, beside that of the best unimodal strategy."""

import numpy as np
from jaxtyping import Float, Int

from fusion_bench.metrics.classification import class_accuracy
from fusion_bench.report.findings import Findings, mean_interval
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, Bars, Panel, Picture, Points

SHOWN = 30
"""Classes; of more, these many are shown, whose names can be read."""


def picture(found: Findings) -> Picture:
    """Returns a panel for each strategy that has logits, for the page alone."""
    found_by = {s: 100 * np.array([class_accuracy(*test) for test in tests]) for s, tests in found.tests.items()}
    shown = _hardest(np.concatenate([*found_by.values()]))
    names = tuple(found.class_names[place] for place in shown)
    x, y = Axis(names=names), Axis("accuracy, %", (0.0, 101.0))
    places, panels = np.arange(len(shown), dtype=float), {}
    means = {}
    for strategy, accuracies in found_by.items():
        means[strategy], width = mean_interval(accuracies[:, shown])
        bars = Bars(places, means[strategy], 0.8, (BLUE, 0.9), "chosen strategy", width)
        panels[strategy] = Panel([bars], x, y)
    best, count = found.best, len(found.class_names)
    part = f" Of {count:,} classes, the {SHOWN} with the lowest mean over all strategies." * (count > SHOWN)
    return Picture(
        "classes", "Accuracy by class",
        f"Percentage of each class's test examples that are right, mean over {found.seeds_text(panels)}; error bars: "
        f"95 % interval over seeds (Student's t), separately for each class.{part}",
        panels, [Points(places, means[best], found.families[best], label=best)] if best in means else [], "strategy",
        paper=(), height=400,
    )  # fmt: skip


def _hardest(accuracies: Float[np.ndarray, "run class"]) -> Int[np.ndarray, " shown"]:
    """Returns the classes with the lowest mean accuracy, those without examples last; all of a few in their order."""
    if accuracies.shape[1] <= SHOWN:
        return np.arange(accuracies.shape[1])
    is_known = ~np.isnan(accuracies).all(axis=0)
    means = np.full(accuracies.shape[1], np.inf)
    means[is_known] = np.nanmean(accuracies[:, is_known], axis=0)
    return np.argsort(means, kind="stable")[:SHOWN]
