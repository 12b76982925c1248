"""Reliability diagrams: accuracy by confidence."""

import numpy as np

from fusion_bench.families import FAMILIES
from fusion_bench.metrics.calibration import BINS, calibration_error, reliability
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import Axis, Bars, Line, Panel, Picture
from fusion_bench.report.text import percent


def picture(found: Findings) -> Picture:
    """Returns one panel per strategy; those of the best of each family and of the Bayes reference are printed."""
    references = [strategy for strategy, family in found.families.items() if family == "reference"]
    return Picture(
        "calibration", "Calibration",
        f"Test examples of all seeds, {found.seeds_text(found.tests)}, in {BINS} bins of confidence; bars: fraction of "
        "the examples in each bin. ECE: expected calibration error, mean over seeds ± 95 % interval. Dotted: "
        "confidence equals accuracy.",
        {strategy: _panel(tests, found.families[strategy]) for strategy, tests in found.tests.items()},
        [Line((0.0, 100.0), (0.0, 100.0), colour=PALE, dash="dot")], "strategy",
        paper=[strategy for strategy in (*found.leaders, *references) if strategy in found.tests],
        size=(2.3, 2.1), columns=3, height=440, has_key=False,
    )  # fmt: skip


def _panel(tests: list[tuple[np.ndarray, np.ndarray]], family: str) -> Panel:
    logits, labels = (np.concatenate(arrays) for arrays in zip(*tests, strict=True))
    bins = reliability(logits, labels)
    known, size = bins.count > 0, 100 / BINS
    hover = [
        f"{n:,} examples\nconfidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %"
        for confidence, accuracy, n in zip(*bins, strict=True)
    ]
    centres, fractions = (np.arange(BINS) + 0.5) * size, 100 * bins.count / max(bins.count.sum(), 1)
    points = 100 * bins.confidence[known], 100 * bins.accuracy[known]
    hover_known = [text for text, is_known in zip(hover, known, strict=True) if is_known]
    marks = [
        Bars(centres, fractions, 0.9 * size, (PALE, 0.4), "fraction of the examples", hover=hover),
        Line(*points, "accuracy of the bin", FAMILIES[family].colour, width=1.1, family=family, hover=hover_known),
    ]
    finding = f"ECE {percent(*t_interval([calibration_error(*test) for test in tests]))} %"
    return Panel(marks, Axis("confidence, %", (0.0, 102.0)), Axis("accuracy, %", (0.0, 102.0)), finding)
