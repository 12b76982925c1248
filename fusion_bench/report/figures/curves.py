"""Learning curves, a panel for each family."""

import math
from typing import TYPE_CHECKING

from fusion_bench.report.figures.canvas import INK, PAGE, PALE, annotate, canvas, in_percent
from fusion_bench.report.findings import Findings
from fusion_bench.report.labels import spread
from fusion_bench.report.palette import LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(found: Findings) -> "Figure | None":
    """Returns the figure: the mean of each strategy, and the band of the two best of each family."""
    by_family: dict[str, list[str]] = {}
    for strategy in found.curves:
        by_family.setdefault(found.families[strategy], []).append(strategy)
    if not by_family:
        return None
    rows = math.ceil(len(by_family) / 2)
    figure = canvas(PAGE, 0.6 + 2.1 * rows)
    panels = [*figure.subplots(rows, 2, squeeze=False, sharex=True).flat]
    for axes, (family, strategies) in zip(panels, by_family.items(), strict=False):
        _panel(axes, found, family, strategies)
    for axes in panels[len(by_family) :]:
        axes.set_visible(False)
    for axes in panels[len(by_family) - 2 : len(by_family)]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_tick_params(labelbottom=True)
    untrained = ", ".join(s for s in found.measured["strategy"] if s not in found.curves)
    annotate(
        figure,
        f"Validation accuracy, mean over {found.said_of([*found.curves])}; band, for the two best of a family: "
        "95 % interval over seeds (Student's t). "
        + (f"No curve, as they are joined after training: {untrained}. " if untrained else "")
        + f"{found.title}.",
    )
    return figure


def _panel(axes: "Axes", found: Findings, family: str, strategies: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    look = LOOKS[family]
    best = sorted(strategies, key=lambda strategy: -found.curves[strategy].mean[-1])[:2]
    ends = [float(found.curves[strategy].mean[-1]) for strategy in strategies]
    last = max(float(found.curves[strategy].x[-1]) for strategy in strategies)
    for strategy in strategies:
        band = found.curves[strategy]
        dash = (0, (4, 1.2)) if best[1:] == [strategy] else "-"
        if strategy not in best:
            axes.plot(band.x, band.mean, color=PALE, linewidth=0.6, alpha=0.8, zorder=2)
            continue
        axes.plot(band.x, band.mean, linestyle=dash, color=INK, linewidth=2.0, zorder=3)
        axes.plot(band.x, band.mean, linestyle=dash, color=look.colour, linewidth=1.4, zorder=4)
        axes.fill_between(
            band.x, *_within(band.mean, band.half_width), color=look.colour, alpha=0.22, linewidth=0, zorder=1
        )
    low, high = _range(found, strategies)
    axes.set_ylim(low, high)
    for strategy, end, place in zip(
        strategies, ends, spread(ends, 0.075 * (high - low), low, high), strict=True
    ):
        axes.annotate(
            strategy,
            (last, end),
            (1.07, place),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            size=6,
            color=INK,
            fontweight="bold" if strategy in best else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": PALE,
                "linewidth": 0.4,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
            annotation_clip=False,
        )
    axes.set_title(family)
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    in_percent(axes)
    axes.set_ylabel("validation accuracy, %")


def _within(mean, half_width):
    width = 0.0 * mean if all(half_width != half_width) else half_width
    return (mean - width).clip(0, 1), (mean + width).clip(0, 1)


def _range(found: Findings, strategies: list[str]) -> tuple[float, float]:
    means = [found.curves[strategy].mean for strategy in strategies]
    low, high = min(float(mean.min()) for mean in means), max(float(mean.max()) for mean in means)
    margin = max(0.08 * (high - low), 0.05 - (high - low) / 2)  # noise around chance is not enlarged
    return max(low - margin, 0.0), min(high + margin, 1.01)
