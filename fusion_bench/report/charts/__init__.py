"""The page's interactive charts, as plotly figures; nothing is computed here."""

from fusion_bench.report.charts import accuracy, cost, curves, significance, strategy
from fusion_bench.report.charts.chart import Chart
from fusion_bench.report.findings import Findings

_CHARTS = (
    accuracy.draw,
    cost.draw,
    curves.draw,
    significance.draw,
    strategy.classes,
    strategy.confusion,
    strategy.roc,
    strategy.calibration,
)


def charts(found: Findings) -> list[Chart]:
    """Returns the charts of a setting; what its runs have nothing for is left out."""
    return [chart for draw in _CHARTS if (chart := draw(found)) is not None]
