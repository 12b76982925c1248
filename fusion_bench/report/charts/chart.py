"""A chart of the page, what it looks like on light and dark paper, and what its points say."""

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fusion_bench.report.notes import percent
from fusion_bench.report.palette import LOOKS

GREY = "#808790"
"""Seen on white and on black."""
MARGIN = {"l": 8, "r": 8, "t": 28, "b": 8}
SEEDS = "95 % interval over seeds (Student's t), given the split and the captions"


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart with what its caption says, and the changes that a choice makes to it.

    Attributes:
      name: of the chart within its section.
      title: above it.
      caption: below it; states n and what ± and bands mean.
      figure: as it is at first.
      choices: by label, what plotly's `update` is called with: data, layout, traces.
      chooser: what is chosen; charts with the same one are changed together.
      wide: whether it keeps a width of its own on a narrow screen.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    choices: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    chooser: str = ""
    wide: bool = False

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.figure.to_plotly_json()["layout"]["height"])


def templates() -> dict[str, go.layout.Template]:
    """Returns how charts look on a light and on a dark page."""
    return {"light": _template("#24282e", "#d9dce1"), "dark": _template("#e2e5e9", "#3a4048")}


def _template(ink: str, grid: str) -> go.layout.Template:
    axis = {"gridcolor": grid, "zerolinecolor": grid, "linecolor": GREY, "automargin": True}
    layout = go.Layout(
        font={"color": ink, "size": 12, "family": "system-ui, sans-serif"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis=axis,
        yaxis=axis,
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
        title={"font": {"size": 13}, "x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": ink},
    )
    return go.layout.Template(layout=layout, data={"heatmap": [go.Heatmap(textfont={"color": ink})]})


def figure_of(traces: Sequence[Any], height: int, **layout: Any) -> go.Figure:
    """Returns a figure as high as given and as wide as there is room."""
    figure = go.Figure(list(traces))
    figure.update_layout(template="none", height=height, margin=MARGIN, **layout)
    figure.layout.template = None  # the page sets it: light or dark
    return figure


def text(value: object) -> str:
    """Returns a text from a run file as plotly, which reads tags, shows it."""
    return html.escape(str(value))


def percents(values: Any) -> list[float | None]:
    """Returns fractions in percent, with the digits that a chart can show; NaN, which JSON lacks, as None."""
    return numbers(100 * np.asarray(values, np.float64), 3)


def numbers(values: Any, digits: int = 6) -> list[float | None]:
    """Returns numbers as JSON has them: NaN as None."""
    return [None if math.isnan(value) else round(float(value), digits) for value in np.asarray(values, float)]


def seen(rows: pd.DataFrame) -> list[str]:
    """Returns what hovering over a point says first."""
    return [
        f"<b>{text(r['strategy'])}</b>, {r['family']}<br>{percent(r['test_accuracy_mean'], r['test_accuracy_ci95'])}"
        f" %, n = {r['n_seeds']}"
        for r in rows.to_dict("records")
    ]


def shade(colour: str, opacity: float) -> str:
    """Returns a colour "#rrggbb" that lets through what is behind it."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def marker(family: str, size: int = 10) -> dict[str, Any]:
    """Returns the look of a family's points."""
    look = LOOKS[family]
    return {"color": look.colour, "symbol": look.symbol, "size": size, "line": {"color": GREY, "width": 0.8}}
