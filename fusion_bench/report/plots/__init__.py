"""Pictures of a setting: a file each computes one from findings; `matplotlib` and `plotly` draw it."""

from fusion_bench.report.findings import Findings
from fusion_bench.report.plots import (
    accuracy,
    calibration,
    classes,
    confusion,
    cost,
    curves,
    roc,
    significance,
)
from fusion_bench.report.plots.marks import Picture

PICTURES = (
    accuracy.picture,
    cost.picture,
    curves.picture,
    significance.picture,
    classes.picture,
    confusion.picture,
    roc.picture,
    calibration.picture,
)
"""In the order of the page; each returns None where the runs have nothing to show."""


def pictures(found: Findings) -> list[Picture]:
    """Returns all pictures of a setting."""
    return [picture for make in PICTURES if (picture := make(found)) is not None]
