"""Pictures of a setting: a file each computes one from findings; `matplotlib` and `plotly` draw it."""

from fusion_bench.report.findings import Findings
from fusion_bench.report.plots import accuracy, calibration, classes, confusion, cost, curves, roc, significance
from fusion_bench.report.plots.marks import Picture

_SUBJECTS = (accuracy, cost, curves, significance, classes, confusion, roc, calibration)


def pictures(found: Findings) -> list[Picture]:
    """Returns all pictures of a setting that its runs have something for, in the order of the page."""
    return [picture for subject in _SUBJECTS if (picture := subject.picture(found)) is not None]
