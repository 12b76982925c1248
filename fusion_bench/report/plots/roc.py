"""ROC curves: true positives by false positives."""

from collections.abc import Sequence

from fusion_bench.families import FAMILIES
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE, PALE
from fusion_bench.report.plots.marks import DASHES, Area, Axis, Line, Panel, Picture, band
from fusion_bench.report.text import percent


def picture(found: Findings) -> Picture | None:
    """Returns the best of each family together, whole and enlarged, for paper, and each strategy for the page."""
    leaders = [strategy for strategy in found.leaders if strategy in found.diagnoses]
    if not found.diagnoses:
        return None
    whole = Axis("false positives, %", (0.0, 100.0)), Axis("true positives, %", (0.0, 100.5))
    panels = {
        strategy: Panel(
            _curves(found, [strategy]), *whole, finding=f"AUC {percent(*found.diagnoses[strategy].area)} %"
        )
        for strategy in found.diagnoses
    }
    paper = {}
    if leaders:
        others = [_thin(found, strategy) for strategy in found.diagnoses if strategy not in leaders]
        best = max(100 * float(found.diagnoses[strategy].roc.mean[20]) for strategy in leaders)
        near = (
            Axis(whole[0].label, (1.0, 20.0)),
            Axis(whole[1].label, (max(0.0, best - 35), min(100.5, best + 2))),
        )
        marks = [*others, *_curves(found, leaders, with_area=True)]
        paper = {
            "the best of each family on validation": Panel(marks, *whole),
            "enlarged": Panel(marks, *near),
        }
    return Picture(
        "roc",
        "ROC curve",
        f"Each class against the others, mean over classes and over {found.said_of(found.diagnoses)}; band, and ± of "
        "the area under the curve (AUC, %): 95 % interval over seeds (Student's t). Thin: other strategies.",
        panels | paper,
        [_thin(found, strategy) for strategy in leaders],
        "strategy",
        paper=[*paper],
        page=[*panels],
        size=(3.45, 2.8),
        height=440,
    )


def _thin(found: Findings, strategy: str) -> Line:
    curve = found.diagnoses[strategy].roc
    return Line(100 * curve.x, 100 * curve.mean, colour=PALE, width=0.4, hover=[strategy] * len(curve.x))


def _curves(found: Findings, strategies: Sequence[str], *, with_area: bool = False) -> list[Line | Area]:
    marks: list[Line | Area] = []
    for dash, strategy in zip(DASHES, strategies, strict=False):
        curve, area = found.diagnoses[strategy].roc, found.diagnoses[strategy].area
        x, mean, colour = (
            100 * curve.x,
            100 * curve.mean,
            FAMILIES[found.families[strategy]].colour if with_area else BLUE,
        )
        label = f"{strategy}: {percent(*area)}" if with_area else ""
        hover = [f"{strategy}\n{y:.1f} % at {place:.0f} %" for place, y in zip(x, mean, strict=True)]
        marks.append(Line(x, mean, label, colour, dash, 1.3, hover=hover))
        marks += band(x, mean, 100 * curve.half_width, colour=colour, label=label)
    return marks
