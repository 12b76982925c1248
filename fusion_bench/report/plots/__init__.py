"""Pictures of a setting. Each has a file that computes it from findings; `matplotlib` and `plotly` draw it."""

from fusion_bench.report.findings import Findings
from fusion_bench.report.plots import (
    accuracy,
    bits,
    calibration,
    channel_shift,
    classes,
    confusion,
    contributions,
    cost,
    curves,
    robustness,
    roc,
    significance,
    similarity,
)
from fusion_bench.report.plots.marks import Picture

DIAGNOSTICS = bits, contributions, robustness, channel_shift, similarity
"""Those of diagnostics' values, which are absent where no diagnostic was applied."""


def pictures(found: Findings) -> list[Picture]:
    """Returns the pictures of a setting that its runs have data for, in the order of the page."""
    of_rows = () if found.measured.empty else (accuracy, cost)
    of_tests = (classes, confusion, roc, calibration) if found.tests else ()
    modules = (*of_rows, curves, significance, *of_tests, *DIAGNOSTICS)
    return [picture for module in modules if (picture := module.picture(found)) is not None]
