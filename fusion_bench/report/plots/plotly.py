"""Draws pictures for the page, as plotly's JSON; the common style of all charts is in page.js.

Names from run files are escaped, as plotly reads tags in them.
"""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from plotly.colors import hex_to_rgb

from fusion_bench.families import FAMILIES
from fusion_bench.report.palette import INK, PALE, Shade
from fusion_bench.report.plots.labels import plain, spread
from fusion_bench.report.plots.marks import Area, Axis, Bars, HeatMap, Line, Mark, Names, Panel, Picture, Points, Values

Trace = dict[str, Any]


def chart(picture: Picture) -> dict[str, Any]:
    """Returns `panels`, each with its traces and layout, and `shared`, the traces of all of them."""
    panels = {}
    for name in picture.shown:
        panel = picture.panels[name]
        panels[name] = {"data": _traces(panel.marks), "layout": _layout(picture, panel, name)}
    return {"panels": panels, "shared": _traces(picture.shared)}


def _traces(marks: Sequence[Mark]) -> list[Trace]:
    return [trace for mark in marks for trace in _MARKS[type(mark)](mark)]


def _layout(picture: Picture, panel: Panel, name: str) -> dict[str, Any]:
    named = [mark for mark in panel.marks if isinstance(mark, Names) and mark.side == "left"]
    is_map = any(isinstance(mark, HeatMap) for mark in panel.marks)
    return {
        "height": picture.height,
        "title": {"text": text(f"{name}: {panel.finding}") if panel.finding else ""},
        "xaxis": _axis(panel.x, 1) | {"showgrid": not is_map},
        "yaxis": _axis(panel.y, -1) | {"showgrid": not is_map},
        "barmode": "overlay",  # bars stand where their marks say
        "annotations": [note for mark in named for note in _annotations(mark, picture, panel)],
    }


def _axis(axis: Axis, direction: int) -> dict[str, Any]:
    """Returns an axis; names run along it in a direction, 1 or -1."""
    layout: dict[str, Any] = {"title": {"text": axis.label}, "type": "log" if axis.is_log else "linear"}
    if axis.ends is not None:
        ends = [math.log10(end) if axis.is_log else end for end in axis.ends]
        layout["range"] = numbers(ends[:: direction if axis.names else 1])
    if axis.names:
        names = [text(name) for name in axis.names]
        layout |= {"tickvals": list(range(len(names))), "ticktext": names, "zeroline": False}
        if direction > 0 and len(names) > 12:
            layout["tickangle"] = -90
    elif axis.ticks is not None:
        layout |= {"tickvals": list(axis.ticks), "ticktext": [plain(tick) for tick in axis.ticks]}
    return layout


def _points(mark: Points) -> list[Trace]:
    look = FAMILIES[mark.family]
    marker = {"color": look.colour, "symbol": look.symbol + "-open" * (mark.fill == "none"), "size": 10}
    errors = _errors("x", mark.x_interval) | _errors("y", mark.y_interval)
    return [_scatter(mark, "markers") | {"marker": marker} | errors]


def _line(mark: Line) -> list[Trace]:
    line = {"color": PALE if mark.colour == INK else mark.colour, "width": 1.7 * mark.width, "dash": mark.dash}
    trace = _scatter(mark, "lines+markers" if mark.family else "lines")
    trace |= {"line": line | {"shape": "hv" if mark.is_step else "linear"}, "legendgroup": text(mark.label)}
    if mark.family:
        trace["marker"] = {"symbol": FAMILIES[mark.family].symbol, "size": 7}
    return [trace | ({"visible": "legendonly"} if mark.is_hidden else {})]


def _scatter(mark: Points | Line, mode: str) -> Trace:
    places = {"x": numbers(mark.x), "y": numbers(mark.y)}
    return {"type": "scatter", "mode": mode} | places | _named(mark.label) | _hover(mark.hover)


def _area(mark: Area) -> list[Trace]:
    shape = {"x": numbers(mark.x), "y": numbers(mark.y), "fill": "toself", "fillcolor": rgba((mark.colour, 0.2))}
    style = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return [{"type": "scatter", "legendgroup": text(mark.label)} | shape | style]


def _bars(mark: Bars) -> list[Trace]:
    along, across = ("y", "x") if mark.is_lying else ("x", "y")
    shape: Trace = {along: numbers(mark.x), across: numbers(mark.heights), "width": mark.width}
    shape |= {"orientation": "h"} if mark.is_lying else {}
    shape |= {"base": numbers(mark.base)} if len(mark.base) else {}
    trace = {"type": "bar", "marker": {"color": rgba(mark.shade)}} | shape | _named(mark.label) | _hover(mark.hover)
    return [trace | _errors(across, mark.interval)]


def _heat_map(mark: HeatMap) -> list[Trace]:
    low, high = mark.limits
    cells: Trace = {"type": "heatmap", "z": [numbers(row) for row in mark.values], "zmin": low, "zmax": high}
    cells["colorscale"] = [[position, rgba(shade)] for position, shade in mark.scale]
    cells |= {"hovertext": [[_marked_up(cell) for cell in row] for row in mark.hover], "hoverinfo": "text"}
    if len(mark.texts):
        cells |= {"text": mark.texts, "texttemplate": "%{text}"}
    keys = [
        {"type": "scatter", "mode": "markers", "x": [None], "y": [None]}
        | {"marker": {"symbol": "square", "size": 12, "color": rgba(shade)}}
        | _named(label)
        for label, shade in mark.legend.items()
    ]
    return [cells, *keys]


_MARKS: dict[type, Callable[[Any], list[Trace]]] = {
    Points: _points, Line: _line, Area: _area, Bars: _bars, HeatMap: _heat_map, Names: lambda mark: [],
}  # fmt: skip


def _annotations(mark: Names, picture: Picture, panel: Panel) -> list[dict[str, Any]]:
    """Returns names above and to the left of their points, where they do not overlap."""
    assert panel.y.limits is not None
    (low, high), pixels = panel.y.limits, 0.82 * picture.height  # about the height of the axes
    gap = 16 / pixels * (high - low)
    heights = spread([y + gap for y in mark.y], gap, low + gap, high - gap / 2)
    style = {"ax": -16, "xanchor": "right", "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": PALE, "standoff": 4}
    return [
        {
            "x": round(math.log10(x) if panel.x.is_log else x, 5),
            "y": round(float(y), 3),
            "ay": round((y - height) / (high - low) * pixels),
            "text": text(name),
        }
        | style
        for x, y, name, height in zip(mark.x, mark.y, mark.texts, heights, strict=True)
    ]


def _errors(axis: str, widths: Values) -> dict[str, Any]:
    return {f"error_{axis}": {"array": numbers(np.nan_to_num(widths))}} if len(widths) else {}


def _named(label: str) -> dict[str, Any]:
    return {"name": text(label), "showlegend": bool(label)}


def _hover(texts: Sequence[str]) -> dict[str, Any]:
    hover = {"hovertext": [_marked_up(each) for each in texts], "hoverinfo": "text"}
    return hover if texts else {"hoverinfo": "skip"}


def _marked_up(hover: str) -> str:
    """Returns lines in plotly's markup, the first in bold."""
    first, *rest = text(hover).split("\n")
    return "<br>".join([f"<b>{first}</b>", *rest])


def text(value: object) -> str:
    """Returns a text that plotly shows as it is."""
    return html.escape(str(value))


def numbers(values: Any) -> list[float | None]:
    """Returns numbers with six significant digits, and NaN, which JSON lacks, as None."""
    return [None if math.isnan(value) else float(f"{value:.6g}") for value in np.asarray(values, float)]


def rgba(shade: Shade) -> str:
    """Returns a colour "#rrggbb" and its opacity in CSS."""
    return f"rgba{(*hex_to_rgb(shade[0]), shade[1])}"
