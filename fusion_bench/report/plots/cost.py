"""Accuracy against cost, with the Pareto front."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.accuracy import focus, points
from fusion_bench.report.plots.marks import Axis, Line, Names, Panel, Picture, log_axis
from fusion_bench.report.text import INTERVAL, percent

COSTS = {
    "parameters": ("params", 1.0),
    "training MFLOP per example": ("train_flops", 1e-6),
    "test MFLOP per example": ("inference_flops", 1e-6),
    "training time, s": ("train_seconds", 1.0),
    "latency of one example, ms": ("latency_s", 1e3),
}
"""By label, the column of the table and the factor to the label's unit."""


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each cost that was measured."""
    rows = found.measured
    low, high = (100 * end for end in focus(found.rows))
    panels = {label: panel for label in COSTS if (panel := _panel(found, rows, label, (low, high)))}
    if not panels:
        return None
    below = rows.loc[100 * rows["test_accuracy_mean"] < low].to_dict("records")
    outside = ", ".join(f"{row['strategy']} {percent(row['test_accuracy_mean'])}" for row in below)
    caption = (
        f"Mean test accuracy over {found.seeds_text(rows['strategy'])}; bars: {INTERVAL}. Cost: median over seeds. "
        "Line: Pareto front, the strategies that no other one equals or exceeds in accuracy at the same or lower cost."
    )
    return Picture(
        "cost", "Accuracy against cost", caption + f" Below the axis, %: {outside}." * bool(outside), panels,
        chooser="cost", size=(3.45, 2.4), height=480, hint="A double click shows all points." * bool(outside),
    )  # fmt: skip


def values(rows: pd.DataFrame, label: str) -> list[float]:
    """Returns a cost of each row in the unit of its label, NaN where it was not measured."""
    key, scale = COSTS[label]
    return [float(scale * value) for value in rows[key].astype("Float64").to_numpy(float, na_value=math.nan)]


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Returns the points that no other one dominates, cheapest first.

    A point dominates another if it is at least as cheap and as good, and better in one of both. Points of equal cost
    and value are all on the front, or none is. A point with NaN is never on it.
    """
    cost, value = np.array(costs, float), np.array(values, float)
    is_as_good = (cost <= cost[:, None]) & (value >= value[:, None])
    is_better = (cost < cost[:, None]) | (value > value[:, None])
    front = ~np.any(is_as_good & is_better, axis=1) & ~np.isnan(cost + value)
    return [int(place) for place in np.argsort(cost, kind="stable") if front[place]]


def _panel(found: Findings, rows: pd.DataFrame, label: str, limits: tuple[float, float]) -> Panel | None:
    x, y = values(rows, label), [100 * float(value) for value in rows["test_accuracy_mean"]]
    shown = [cost for cost, accuracy in zip(x, y, strict=True) if cost > 0 and accuracy >= limits[0]]
    if not shown:
        return None
    decades = max(math.log10(max(shown) / min(shown)), 0.05)
    low, high = (min(shown) / 10 ** (0.4 * decades), max(shown) * 10 ** (0.07 * decades))  # names are on the left
    front = pareto_front(x, y)
    steps = [*(x[place] for place in front), np.nanmax(x)], [y[place] for place in (*front, front[-1])]
    named = [(x[place], y[place], str(rows["strategy"][place])) for place in front if y[place] >= limits[0]]
    references = [row for row in found.lines if row["family"] == "reference"]
    marks = [
        *points(rows, x, label),
        Line(*steps, "Pareto front", is_step=True),
        *(Line((low, high), [100 * r["test_accuracy_mean"]] * 2, r["strategy"], PALE, "dash") for r in references),
        Names(*zip(*named, strict=True), side="left"),
    ]
    return Panel(marks, log_axis(label, low, high), Axis("test accuracy, %", limits))
