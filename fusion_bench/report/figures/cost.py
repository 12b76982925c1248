"""Accuracy against cost, with the Pareto front."""

import math
from typing import TYPE_CHECKING

import pandas as pd

from fusion_bench.report.costs import LATENCY, PARAMETERS, TRAIN_FLOPS, TRAIN_SECONDS, Cost
from fusion_bench.report.figures.canvas import INK, PAGE, PALE, annotate, canvas, in_percent
from fusion_bench.report.findings import Findings, focus, pareto_front
from fusion_bench.report.labels import plain, spread, ticks
from fusion_bench.report.palette import LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(found: Findings) -> "Figure | None":
    """Returns the figure: a panel for each cost that was measured."""
    rows = found.measured
    if rows.empty:
        return None
    low, high = focus(found.block)
    costs = [c for c in (PARAMETERS, TRAIN_FLOPS, TRAIN_SECONDS, LATENCY) if c.pictured(rows, low)]
    if not costs:
        return None
    figure = canvas(PAGE, 0.8 + 2.5 * math.ceil(len(costs) / 2))
    panels = figure.subplots(math.ceil(len(costs) / 2), 2, squeeze=False, sharey=True).flat
    for axes, cost in zip(panels, costs, strict=False):
        axes.set_ylim(low, high)
        _panel(axes, rows, cost, found)
    for axes in [*panels][len(costs) :]:
        axes.set_visible(False)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handletextpad=0.3)
    below = [row for row in rows.to_dict("records") if row["test_accuracy_mean"] < low]
    outside = ", ".join(f"{row['strategy']} {100 * row['test_accuracy_mean']:.1f}" for row in below)
    annotate(
        figure,
        f"Mean over {found.said_of(rows['strategy'].tolist())}; bars: 95 % interval over seeds. "
        "Cost: median over seeds. Line: Pareto front, nothing is at least as cheap and as accurate as what is named. "
        + (f"Below the picture, %: {outside}. " if outside else "")
        + f"{found.title}.",
    )
    return figure


def _panel(axes: "Axes", rows: pd.DataFrame, cost: Cost, found: Findings) -> None:
    values = cost.values(rows)
    accuracies = [float(value) for value in rows["test_accuracy_mean"]]
    for family, group in rows.groupby("family", sort=False):
        look, places = LOOKS[str(family)], [int(place) for place in group.index]
        axes.errorbar(
            [values[place] for place in places],
            [accuracies[place] for place in places],
            yerr=group["test_accuracy_ci95"].fillna(0.0),
            fmt=look.marker,
            color=look.colour,
            ecolor=PALE,
            elinewidth=0.5,
            markersize=4.5,
            markeredgecolor=INK,
            markeredgewidth=0.4,
            label=str(family),
        )
    front = pareto_front(values, accuracies)
    ends = [max(value for value in values if not math.isnan(value))]
    axes.step(
        [values[place] for place in front] + ends,
        [accuracies[place] for place in front] + [accuracies[front[-1]]],
        where="post",
        color=INK,
        linewidth=0.9,
        zorder=1,
        label="Pareto front",
    )
    for row in (row for row in found.lines if row["family"] == "reference"):
        axes.axhline(
            row["test_accuracy_mean"], color=PALE, linestyle="--", linewidth=0.8, label=row["strategy"]
        )
    low = axes.get_ylim()[0]
    axes.set_xscale("log")
    shown = cost.pictured(rows, low)
    _limit(axes, min(shown), max(shown))
    names = rows["strategy"].tolist()
    _names(axes, [(values[p], accuracies[p], names[p]) for p in front if accuracies[p] >= low])
    axes.set_xlabel(cost.label)
    in_percent(axes)
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]  # it is one of subplots
        axes.set_ylabel("test accuracy, %")


def _names(axes: "Axes", points: list[tuple[float, float, str]]) -> None:
    """Names what is on the front, up and to the left of it, where by its definition no point is."""
    low, high = axes.get_ylim()
    gap = 0.05 * (high - low)
    heights = spread([y + gap for _, y, _ in points], gap, low + gap, high - gap)
    left, right = axes.get_xlim()
    step = (right / left) ** -0.05
    for (x, y, name), height in zip(points, heights, strict=True):
        axes.annotate(
            name,
            (x, y),
            (x * step, height),
            ha="right",
            va="center",
            size=6,
            zorder=4,
            bbox={"facecolor": "w", "edgecolor": "none", "pad": 0.4},
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.4, "relpos": (1, 0.5), "shrinkA": 1},
        )


def _limit(axes: "Axes", low: float, high: float) -> None:
    """Bounds a logarithmic axis, with room for names to the left, and labels it in plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    decades = max(math.log10(high / low), 0.05)
    axes.set_xlim(low / 10 ** (0.45 * decades), high * 10 ** (0.06 * decades))
    axes.xaxis.set_major_locator(FixedLocator(ticks(*axes.get_xlim())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.xaxis.set_minor_locator(NullLocator())
