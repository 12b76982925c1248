"""Draws pictures for the page, as plotly's own JSON; names from run files are escaped, as plotly reads tags."""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusion_bench.families import FAMILIES
from fusion_bench.report.palette import INK, PALE, Shade
from fusion_bench.report.plots.labels import plain, spread
from fusion_bench.report.plots.marks import Area, Axis, Bars, HeatMap, Line, Names, Panel, Picture, Points

Trace = dict[str, Any]


def templates() -> dict[str, Any]:
    """Returns the style of charts on a light and on a dark page."""
    return {"light": _template("#24282e", "#d9dce1"), "dark": _template("#e2e5e9", "#3a4048")}


def _template(ink: str, grid: str) -> dict[str, Any]:
    axis = {"gridcolor": grid, "zerolinecolor": grid, "linecolor": PALE, "automargin": True}
    layout = {
        "font": {"color": ink, "size": 12, "family": "system-ui, sans-serif"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {"font": {"family": "system-ui, sans-serif"}},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
        "title": {
            "font": {"size": 13},
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": PALE, "activecolor": ink},
    }
    return {"layout": layout, "data": {"heatmap": [{"type": "heatmap", "textfont": {"color": ink}}]}}


def chart(picture: Picture) -> dict[str, Any]:
    """Returns what the page draws: `panels`, each with its traces and layout, and the traces of all of them."""
    return {
        "panels": {
            name: {
                "data": _traces(picture.panels[name].marks),
                "layout": _layout(picture, picture.panels[name], name),
            }
            for name in picture.shown
        },
        "shared": _traces(picture.shared),
    }


def _traces(marks: Sequence[Any]) -> list[Trace]:
    return [trace for mark in marks if type(mark) in _MARKS for trace in _MARKS[type(mark)](mark)]


def _layout(picture: Picture, panel: Panel, name: str) -> dict[str, Any]:
    has_grid = not any(isinstance(mark, HeatMap) for mark in panel.marks)
    named = [mark for mark in panel.marks if isinstance(mark, Names) and mark.side == "left"]
    return {
        "height": picture.height,
        "margin": {"l": 8, "r": 8, "t": 62 if panel.finding else 28, "b": 8},
        "xaxis": _axis(panel.x, is_upright=True, has_grid=has_grid),
        "yaxis": _axis(panel.y, has_grid=has_grid),
        "annotations": [note for mark in named for note in _annotations(mark, picture, panel)],
        "bargap": 0.05,
        **({"title": {"text": text(f"{name}: {panel.finding}")}} if panel.finding else {}),
    }


def _axis(axis: Axis, *, is_upright: bool = False, has_grid: bool = True) -> dict[str, Any]:
    layout: dict[str, Any] = {"title": {"text": axis.label}} if axis.label else {}
    if axis.is_log:
        layout["type"] = "log"
    if axis.ends is not None:
        ends = [math.log10(end) if axis.is_log else end for end in axis.ends]
        layout["range"] = numbers(ends if is_upright or not axis.names else ends[::-1])
    if axis.names:
        layout |= {"tickvals": list(range(len(axis.names))), "ticktext": [text(name) for name in axis.names]}
        layout |= {
            "zeroline": False,
            "showgrid": has_grid,
            "tickangle": -90 if is_upright and len(axis.names) > 12 else None,
        }
    elif axis.ticks is not None:
        layout |= {"tickvals": list(axis.ticks), "ticktext": [plain(tick) for tick in axis.ticks]}
    return layout


def _points(mark: Points) -> list[Trace]:
    look = FAMILIES[mark.family]
    symbol = look.symbol + "-open" * (mark.fill == "none")
    intervals = {
        f"error_{axis}": {"array": numbers(np.nan_to_num(widths)), "thickness": 1, "color": PALE, "width": 0}
        for axis, widths in (("x", mark.x_interval), ("y", mark.y_interval))
        if len(widths)
    }
    marker = {"color": look.colour, "symbol": symbol, "size": 10, "line": {"color": PALE, "width": 0.8}}
    return [_scatter(mark, "markers", marker=marker, **intervals)]


def _line(mark: Line) -> list[Trace]:
    line = {"color": _on_page(mark.colour), "width": 1.7 * mark.width, "dash": mark.dash}
    style: Trace = {"line": line | ({"shape": "hv"} if mark.is_step else {}), "legendgroup": text(mark.label)}
    if mark.family:
        look = FAMILIES[mark.family]
        style["marker"] = {"symbol": look.symbol, "size": 7, "line": {"color": PALE, "width": 0.8}}
    if mark.is_hidden:
        style["visible"] = "legendonly"
    return [_scatter(mark, "lines+markers" if mark.family else "lines", **style)]


def _scatter(mark: Points | Line, mode: str, **style: Any) -> Trace:
    return {
        "type": "scatter",
        "mode": mode,
        "x": numbers(mark.x),
        "y": numbers(mark.y),
        "name": text(mark.label),
        "showlegend": bool(mark.label),
        **_hover(mark.hover),
        **style,
    }


def _area(mark: Area) -> list[Trace]:
    shape = {
        "x": numbers(mark.x),
        "y": numbers(mark.y),
        "fill": "toself",
        "fillcolor": rgba((mark.colour, 0.2)),
    }
    style = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return [{"type": "scatter", **shape, **style, "legendgroup": text(mark.label)}]


def _bars(mark: Bars) -> list[Trace]:
    interval = {"array": numbers(np.nan_to_num(mark.interval)), "color": PALE, "thickness": 1.2, "width": 4}
    return [
        {
            "type": "bar",
            "x": numbers(mark.x),
            "y": numbers(mark.heights),
            "width": mark.width,
            "marker": {"color": rgba(mark.shade)},
            "name": text(mark.label),
            "showlegend": bool(mark.label),
            **({"error_y": interval} if len(mark.interval) else {}),
            **_hover(mark.hover),
        }
    ]


def _heat_map(mark: HeatMap) -> list[Trace]:
    low, high = mark.limits
    cells = {
        "type": "heatmap",
        "z": [numbers(row) for row in mark.values],
        "zmin": low,
        "zmax": high,
        "colorscale": [[position, rgba(shade)] for position, shade in mark.scale],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertext": [[_marked_up(cell) for cell in row] for row in mark.hover],
        "hoverinfo": "text",
        **({"text": mark.texts, "texttemplate": "%{text}"} if len(mark.texts) else {}),
    }
    return [
        cells,
        *(
            {
                "type": "scatter",
                "x": [None],
                "y": [None],
                "mode": "markers",
                "marker": {"symbol": "square", "size": 12, "color": rgba(shade)},
                "name": text(label),
            }
            for label, shade in zip(mark.legend, mark.shades, strict=False)
        ),
    ]


_MARKS: dict[type, Callable[[Any], list[Trace]]] = {
    Points: _points,
    Line: _line,
    Area: _area,
    Bars: _bars,
    HeatMap: _heat_map,
}


def _annotations(mark: Names, picture: Picture, panel: Panel) -> list[dict[str, Any]]:
    """Returns names above and to the left of their points, where they do not overlap."""
    assert panel.y.limits is not None
    (low, high), pixels = panel.y.limits, 0.82 * picture.height  # about the height of the axes
    gap = 16 / pixels * (high - low)
    heights = spread([y + gap for y in mark.y], gap, low + gap, high - gap / 2)
    return [
        {
            "x": round(math.log10(x) if panel.x.is_log else x, 5),
            "y": round(float(y), 3),
            "text": text(name),
            "ax": -16,
            "ay": round((y - height) / (high - low) * pixels),
            "xanchor": "right",
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 0.8,
            "arrowcolor": PALE,
            "font": {"size": 11},
            "standoff": 4,
        }
        for x, y, name, height in zip(mark.x, mark.y, mark.texts, heights, strict=True)
    ]


def _hover(texts: Sequence[str]) -> dict[str, Any]:
    return (
        {"hovertext": [_marked_up(each) for each in texts], "hoverinfo": "text"}
        if texts
        else {"hoverinfo": "skip"}
    )


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
    red, green, blue = (int(shade[0][place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {shade[1]})"


def _on_page(colour: str) -> str:
    return PALE if colour == INK else colour
