"""Reliability diagrams: accuracy by confidence."""

import numpy as np

from fusion_bench.families import FAMILIES
from fusion_bench.metrics.calibration import BINS
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import Axis, Bars, Line, Panel, Picture
from fusion_bench.report.text import percent


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each strategy; of these the best of each family and the reference are printed."""
    if not found.diagnoses:
        return None
    references = [strategy for strategy, family in found.families.items() if family == "reference"]
    printed = [strategy for strategy in (*found.leaders, *references) if strategy in found.diagnoses]
    return Picture(
        "calibration",
        "Calibration",
        f"Test examples of all seeds, {found.said_of(found.diagnoses)}, in {BINS} bins of confidence; bars: fraction "
        "of the examples in each bin. ECE: expected calibration error, mean over seeds ± 95 % interval. On the dotted "
        "line confidence equals accuracy.",
        {strategy: _panel(found, strategy) for strategy in found.diagnoses},
        [Line((0.0, 100.0), (0.0, 100.0), colour=PALE, dash="dot")],
        "strategy",
        paper=printed,
        size=(2.3, 2.1),
        columns=3,
        height=440,
        has_key=False,
    )


def _panel(found: Findings, strategy: str) -> Panel:
    diagnosis, family = found.diagnoses[strategy], found.families[strategy]
    confidence, accuracy, count = diagnosis.calibration
    known, size = count > 0, 100 / len(count)
    hover = [
        f"{n:,} examples\nconfidence {100 * mean:.1f} %, accuracy {100 * part:.1f} %"
        for mean, part, n in zip(*diagnosis.calibration, strict=True)
    ]
    centres = (np.arange(len(count)) + 0.5) * size
    fractions = 100 * count / max(count.sum(), 1)
    marks = [
        Bars(centres, fractions, 0.9 * size, (PALE, 0.4), "fraction of the examples", hover=hover),
        Line(
            100 * confidence[known],
            100 * accuracy[known],
            "accuracy of the bin",
            FAMILIES[family].colour,
            width=1.1,
            family=family,
            hover=[text for text, is_known in zip(hover, known, strict=True) if is_known],
        ),
    ]
    finding = f"ECE {percent(*diagnosis.calibration_error)} %"
    return Panel(marks, Axis("confidence, %", (0.0, 102.0)), Axis("accuracy, %", (0.0, 102.0)), finding)
