"""Learning curves: validation accuracy by epoch."""

import math
from collections.abc import Sequence

from fusion_bench.families import FAMILIES
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import DASHES, Axis, Line, Names, Panel, Picture, band
from fusion_bench.report.text import INTERVAL, percent


def picture(found: Findings) -> Picture | None:
    """Returns a panel for the best strategy of each family, and one for each family."""
    if not found.curves:
        return None
    leaders = [strategy for strategy in found.leaders if strategy in found.curves]
    panels = {"the best of each family on validation": _panel(found, leaders, leaders)} if leaders else {}
    for family in dict.fromkeys(found.families[strategy] for strategy in found.curves):
        members = [strategy for strategy in found.curves if found.families[strategy] == family]
        best = sorted(members, key=lambda strategy: -found.curves[strategy].mean[-1])[:2]
        panels[family] = _panel(found, members, best)
    untrained = ", ".join(strategy for strategy in found.measured["strategy"] if strategy not in found.curves)
    return Picture(
        "curves",
        "Learning curves",
        f"Mean validation accuracy over {found.said_of(found.curves)}; bands: {INTERVAL}. Of a family the two best are "
        "in colour." + f" No curve, as they are joined after training: {untrained}." * bool(untrained),
        panels,
        chooser="show",
        size=(3.45, 2.1),
        has_key=False,
    )


def _panel(found: Findings, strategies: Sequence[str], main: Sequence[str]) -> Panel:
    """Returns the curves of some strategies, the main ones in colour and with a band."""
    curves = {strategy: found.curves[strategy] for strategy in strategies}
    means = {strategy: 100 * curve.mean for strategy, curve in curves.items()}
    is_family = len({found.families[strategy] for strategy in strategies}) == 1
    dashes = iter((DASHES if is_family else DASHES[:1]) * len(strategies))
    marks = []
    for strategy in sorted(strategies, key=lambda strategy: strategy not in main):
        curve, family, is_main = curves[strategy], found.families[strategy], strategy in main
        colour = FAMILIES[family].colour if is_main else PALE
        hover = [
            f"{strategy}\nepoch {epoch:g}: {percent(mean, width)} %"
            for epoch, mean, width in zip(*curve, strict=True)
        ]
        line = Line(
            curve.x, means[strategy], strategy, colour, next(dashes), 1.4 if is_main else 0.6, hover=hover
        )
        area = band(curve.x, means[strategy], 100 * curve.half_width, colour=colour, label=strategy)
        marks += [line, *(area if is_main else ())]
    last = max(float(curve.x[-1]) for curve in curves.values())
    marks.append(Names([last] * len(means), [float(mean[-1]) for mean in means.values()], [*means], main))
    low, high = (
        min(float(mean.min()) for mean in means.values()),
        max(float(mean.max()) for mean in means.values()),
    )
    margin = max(0.08 * (high - low), 5.0 - (high - low) / 2)  # noise around chance is not enlarged
    step = math.ceil(last / 8)
    epochs = Axis(
        "epoch",
        (1 - 0.02 * last, 1.01 * last),
        ticks=tuple(float(n) for n in range(step, int(last) + 1, step)),
    )
    return Panel(
        marks, epochs, Axis("validation accuracy, %", (max(low - margin, 0.0), min(high + margin, 101.0)))
    )
