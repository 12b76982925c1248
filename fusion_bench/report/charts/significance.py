"""The p-value of every two strategies."""

import math

import numpy as np
import plotly.graph_objects as go

from fusion_bench.report.charts.chart import Chart, figure_of, shade, text
from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import points
from fusion_bench.report.palette import LEVELS

_SHADES = (shade("#808790", 0.2), shade("#3f86c0", 0.45), shade("#3f86c0", 0.75), "#3f86c0")
"""From what is not decided to the lowest p-values; the page shines through, be it light or dark."""


def draw(found: Findings) -> Chart | None:
    """Returns a cell for every two strategies, the better one's in the column."""
    matrix, size = found.matrix, len(found.matrix.strategies)
    if size < 2 or np.isnan(matrix.p_values).all():
        return None
    names = [text(strategy) for strategy in matrix.strategies]
    levels: list[list[int | None]] = [
        [
            None
            if column >= row or math.isnan(matrix.p_values[row, column])
            else sum(bool(matrix.p_values[row, column] < bound) for bound, _ in LEVELS)
            for column in range(size)
        ]
        for row in range(size)
    ]
    said = [
        [
            f"<b>{names[column]}</b> over {names[row]}:<br>{points(float(matrix.differences[column, row]))} points, "
            f"p = {matrix.p_values[row, column]:.3g}"
            for column in range(size)
        ]
        for row in range(size)
    ]
    scale = [[end, colour] for i, colour in enumerate(_SHADES) for end in (i / 4, (i + 1) / 4)]
    trace = go.Heatmap(
        z=levels[1:],
        x=names,
        y=names[1:],
        zmin=-0.5,
        zmax=3.5,
        colorscale=scale,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertext=said[1:],
        hoverinfo="text",
        colorbar={
            "tickvals": [0, 1, 2, 3],
            "ticktext": ["not decided", *(f"p < {bound:g}" for bound, _ in reversed(LEVELS))],
            "x": 0.2 if size > 20 else 1,
            "y": 1,
            "xanchor": "left" if size > 20 else "right",
            "yanchor": "top",
            "len": 100,
            "lenmode": "pixels",
            "thickness": 14,
        },
    )
    axes = {"showgrid": False, "dtick": 1, "tickfont": {"size": 11}}
    figure = figure_of(
        [trace],
        200 + 19 * size,
        xaxis=axes | {"range": [-0.5, size - 1.5], "tickangle": -90},
        yaxis=axes | {"autorange": "reversed"},
    )
    return Chart(
        "significance",
        "Which differences are decided",
        f"p of the paired t-test on test accuracy over {found.said_of(matrix.strategies)}, Holm-corrected over all "
        f"{size * (size - 1) // 2} pairs. Strategies by mean accuracy: the one of the column has the higher mean.",
        figure,
        wide=size > 12,
    )
