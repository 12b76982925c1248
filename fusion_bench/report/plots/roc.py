"""ROC curves: true positives by false positives."""

import numpy as np

from fusion_bench.families import FAMILIES
from fusion_bench.metrics.classification import roc_auc, roc_curve
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report.findings import Findings, mean_interval
from fusion_bench.report.palette import BLUE, PALE
from fusion_bench.report.plots.marks import DASHES, Axis, Line, Panel, Picture, curve
from fusion_bench.report.text import percent


def picture(found: Findings) -> Picture:
    """Returns a panel per strategy for the page; for paper the best of each family together, whole and enlarged."""
    leaders = [strategy for strategy in found.leaders if strategy in found.tests]
    axes = Axis("false positives, %", (0.0, 100.5)), Axis("true positives, %", (0.0, 100.5))
    panels, thin, front, best = {}, {}, [], 0.0
    for strategy, tests in found.tests.items():
        curves = [roc_curve(*test) for test in tests]
        x, (mean, width) = 100 * curves[0][0], mean_interval([100 * rates for _, rates in curves])
        area = percent(*t_interval([roc_auc(*test) for test in tests]))
        hover = [f"{strategy}\n{y:.1f} % at {place:.0f} %" for place, y in zip(x, mean, strict=True)]
        panels[strategy] = Panel(
            curve(x, mean, width, "", BLUE, width=1.3, hover=hover), *axes, finding=f"AUC {area} %"
        )
        thin[strategy] = Line(x, mean, colour=PALE, width=0.4, hover=[strategy] * len(x))
        if strategy in leaders:
            colour, dash = FAMILIES[found.families[strategy]].colour, DASHES[leaders.index(strategy)]
            front += curve(x, mean, width, f"{strategy}: {area}", colour, dash=dash, width=1.3, hover=hover)
            best = max(best, float(np.interp(20.0, x, mean)))
    near = Axis(axes[0].label, (1.0, 20.0)), Axis(axes[1].label, (max(0.0, best - 35), min(100.5, best + 2)))
    together = [*(line for strategy, line in thin.items() if strategy not in leaders), *front]
    paper = {"the best of each family on validation": Panel(together, *axes), "enlarged": Panel(together, *near)}
    return Picture(
        "roc", "ROC curve",
        f"Each class against the others, mean over classes and over {found.seeds_text(panels)}. Band, and ± of the "
        "area under the curve (AUC, %): 95 % interval over seeds (Student's t). Thin: other strategies.",
        panels | paper, [thin[strategy] for strategy in leaders], "strategy",
        paper=[*paper] if leaders else (), page=[*panels], size=(3.45, 2.8), height=440,
    )  # fmt: skip
