"""Pictures of a setting: a file each computes one from findings; `matplotlib` and `plotly` draw it."""

from fusion_bench.report.findings import Findings
from fusion_bench.report.plots import accuracy, calibration, classes, confusion, cost, curves, roc, significance
from fusion_bench.report.plots.marks import Picture


def pictures(found: Findings) -> list[Picture]:
    """Returns all pictures of a setting that its runs have something for, in the order of the page."""
    of_rows = () if found.measured.empty else (accuracy, cost)
    of_tests = (classes, confusion, roc, calibration) if found.tests else ()
    subjects = (*of_rows, curves, significance, *of_tests)
    return [picture for subject in subjects if (picture := subject.picture(found)) is not None]
