"""ROC curves."""

from typing import TYPE_CHECKING

from fusion_bench.report.figures.canvas import INK, PAGE, PALE, annotate, canvas, in_percent
from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import percent
from fusion_bench.report.palette import LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = {
    "unimodal": "-",
    "early": (0, (4, 1)),
    "intermediate": "-",
    "tensor": (0, (4, 1, 1, 1)),
    "late": (0, (1, 0.7)),
}


def draw(found: Findings) -> "Figure | None":
    """Returns the figure: the best of each family in front, whole to the left and enlarged to the right."""
    shown = [strategy for strategy in found.leaders if strategy in found.diagnoses]
    if not shown:
        return None
    figure = canvas(PAGE, 3.3)
    whole, enlarged = figure.subplots(1, 2)
    for axes in (whole, enlarged):
        _panel(axes, found, shown)
        in_percent(axes, "xy")
        axes.set_xlabel("false positives, %")
    whole.set(xlim=(0, 1), ylim=(0, 1.005), ylabel="true positives, %")
    best = max(float(found.diagnoses[strategy].roc.mean[20]) for strategy in shown)
    enlarged.set(xlim=(0.01, 0.2), ylim=(max(0.0, best - 0.35), min(1.005, best + 0.02)), title="enlarged")
    whole.legend(loc="lower right", handlelength=2.4)
    annotate(
        figure,
        "Each class against the others, mean over classes; the best of each family on validation in front, all others "
        f"pale. Mean over {found.said_of(shown)}; band, and ± of the area (AUC, %): 95 % interval over seeds "
        f"(Student's t). {found.title}.",
    )
    return figure


def _panel(axes: "Axes", found: Findings, shown: list[str]) -> None:
    for strategy, diagnosis in found.diagnoses.items():
        if strategy not in shown:
            axes.plot(diagnosis.roc.x, diagnosis.roc.mean, color=PALE, linewidth=0.4, alpha=0.5)
    for strategy in shown:
        diagnosis, family = found.diagnoses[strategy], found.families[strategy]
        roc, colour = diagnosis.roc, LOOKS[family].colour
        label = f"{strategy}: {percent(*diagnosis.area)}"
        axes.plot(roc.x, roc.mean, color=INK, linewidth=1.7, linestyle=_DASHES[family], zorder=2.9)
        axes.plot(
            roc.x, roc.mean, color=colour, linewidth=1.2, linestyle=_DASHES[family], label=label, zorder=3
        )
        low, high = (roc.mean - roc.half_width).clip(0, 1), (roc.mean + roc.half_width).clip(0, 1)
        axes.fill_between(roc.x, low, high, color=colour, alpha=0.2, linewidth=0)
