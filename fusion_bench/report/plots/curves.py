"""Learning curves: validation accuracy by epoch."""

import math
from collections.abc import Sequence

import numpy as np

from fusion_bench.families import FAMILIES
from fusion_bench.report.findings import Findings, mean_interval
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import DASHES, Axis, Line, Mark, Names, Panel, Picture, curve
from fusion_bench.report.text import INTERVAL, percent

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Epochs, mean and half width."""


def picture(found: Findings) -> Picture | None:
    """Returns a panel for the best strategy of each family, and one for each family."""
    curves: dict[str, Curve] = {
        strategy: (frame.index.to_numpy(float), *mean_interval(frame.to_numpy(float).T))
        for strategy, frame in found.curves.items()
    }
    if max((len(epochs) for epochs, *_ in curves.values()), default=0) < 2:  # one epoch makes no line
        return None
    leaders = [strategy for strategy in found.leaders if strategy in curves]
    panels = {"the best of each family on validation": _panel(found, curves, leaders, leaders)} if leaders else {}
    for family in dict.fromkeys(found.families[strategy] for strategy in curves):
        members = [strategy for strategy in curves if found.families[strategy] == family]
        best = sorted(members, key=lambda strategy: -curves[strategy][1][-1])[:2]
        panels[family] = _panel(found, curves, members, best)
    untrained = ", ".join(strategy for strategy in found.measured["strategy"] if strategy not in curves)
    caption = (
        f"Mean validation accuracy over {found.seeds_text(curves)}; bands: {INTERVAL}. In each family the two best are "
        "in colour." + f" Without a curve, as they join trained models: {untrained}." * bool(untrained)
    )
    return Picture("curves", "Learning curves", caption, panels, chooser="show", size=(3.45, 2.1), has_key=False)


def _panel(found: Findings, curves: dict[str, Curve], strategies: Sequence[str], main: Sequence[str]) -> Panel:
    """Returns the curves of some strategies, the main ones in colour and with a band."""
    means = {strategy: 100 * curves[strategy][1] for strategy in strategies}
    is_family = len({found.families[strategy] for strategy in strategies}) == 1
    dashes = iter((DASHES if is_family else DASHES[:1]) * len(strategies))
    marks: list[Mark] = []
    for strategy in sorted(strategies, key=lambda strategy: strategy not in main):
        points = list(zip(*curves[strategy], strict=True))
        hover = [f"{strategy}\nepoch {epoch:g}: {percent(*interval)} %" for epoch, *interval in points]
        x, mean, width = curves[strategy][0], means[strategy], 100 * curves[strategy][2]
        if strategy in main:
            colour = FAMILIES[found.families[strategy]].colour
            marks += curve(x, mean, width, strategy, colour, dash=next(dashes), width=1.4, hover=hover)
        else:
            marks.append(Line(x, mean, strategy, PALE, next(dashes), 0.6, hover=hover))
    last = max(float(curves[strategy][0][-1]) for strategy in strategies)
    marks.append(Names([last] * len(means), [float(mean[-1]) for mean in means.values()], [*means], main))
    values = np.concatenate([*means.values()])
    low, high = float(values.min()), float(values.max())
    margin = max(0.08 * (high - low), 5.0 - (high - low) / 2)  # noise around chance is not enlarged
    step = math.ceil(last / 8)
    ticks = tuple(float(epoch) for epoch in range(step, int(last) + 1, step))
    y = Axis("validation accuracy, %", (max(low - margin, 0.0), min(high + margin, 101.0)))
    return Panel(marks, Axis("epoch", (1 - 0.02 * last, 1.01 * last), ticks=ticks), y)
