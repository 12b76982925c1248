"""Accuracy by class, beside that of the best unimodal strategy."""

from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import best_of
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, Bars, Panel, Picture, Points


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each strategy that has logits, for the page alone."""
    if not found.diagnoses:
        return None
    x = Axis(names=tuple(found.class_names))
    panels = {}
    for strategy, diagnosis in found.diagnoses.items():
        places, means, widths = diagnosis.classes
        bars = Bars(places, 100 * means, 0.8, (BLUE, 0.9), "chosen strategy", 100 * widths)
        panels[strategy] = Panel([bars], x, Axis("accuracy, %", (0.0, 101.0)))
    best = best_of(found.block)
    beside = [found.diagnoses[best].classes] if best in found.diagnoses else []
    return Picture(
        "classes",
        "Accuracy by class",
        f"Percent of each class's test examples, mean over {found.said_of(found.diagnoses)}; error bars: 95 % "
        "interval over seeds (Student's t), of each class by itself.",
        panels,
        [Points(classes.x, 100 * classes.mean, found.families[best], label=best) for classes in beside],
        "strategy",
        paper=(),
        height=400,
    )
