"""Accuracy against a chosen cost, with the Pareto front."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from fusion_bench.report.charts.chart import (
    GREY,
    SEEDS,
    Chart,
    figure_of,
    marker,
    numbers,
    percents,
    seen,
    text,
)
from fusion_bench.report.costs import LATENCY, PARAMETERS, TEST_FLOPS, TRAIN_FLOPS, TRAIN_SECONDS, Cost
from fusion_bench.report.findings import Findings, focus, pareto_front
from fusion_bench.report.labels import plain, spread, ticks
from fusion_bench.report.notes import percent

_HEIGHT = 480
_PLOT = 0.82 * _HEIGHT
"""About the height of the axes, in pixels."""


def draw(found: Findings) -> Chart | None:
    """Returns a point for each strategy, on an axis of one cost or another."""
    rows = found.measured
    if rows.empty:
        return None
    picture = focus(found.block)
    choices = {
        cost.label: _choice(rows, cost, picture)
        for cost in (PARAMETERS, TRAIN_FLOPS, TEST_FLOPS, TRAIN_SECONDS, LATENCY)
        if cost.pictured(rows, picture[0])
    }
    if not choices:
        return None
    traces = [
        go.Scatter(
            error_y={
                "array": percents(group["test_accuracy_ci95"].fillna(0.0)),
                "thickness": 0.8,
                "color": GREY,
                "width": 0,
            },
            mode="markers",
            marker=marker(str(family)),
            name=str(family),
            hoverinfo="text",
        )
        for family, group in rows.groupby("family", sort=False)
    ]
    line = {"shape": "hv", "color": GREY, "width": 1.5}
    traces.append(go.Scatter(mode="lines", line=line, name="Pareto front", hoverinfo="skip"))
    low, high = (100 * end for end in picture)
    figure = figure_of(
        traces,
        _HEIGHT,
        xaxis={"type": "log"},
        yaxis={"title": {"text": "test accuracy, %"}, "range": [low, high]},
    )
    below = [row for row in rows.to_dict("records") if 100 * row["test_accuracy_mean"] < low]
    outside = ", ".join(f"{row['strategy']} ({percent(row['test_accuracy_mean'])})" for row in below)
    return Chart(
        "cost",
        "Accuracy against cost",
        f"Mean test accuracy over {found.said_of(rows['strategy'].tolist())}; bars: {SEEDS}. Cost: median over seeds. "
        "Line: the Pareto front; nothing is at least as cheap and as accurate as what is named on it."
        + (f" Below the picture: {outside}; a double click shows them." if outside else ""),
        figure,
        choices,
        "cost",
    )


def _choice(rows: pd.DataFrame, cost: Cost, picture: tuple[float, float]) -> dict[str, Any]:
    """Returns what changes with the cost: places, front, names, axis."""
    values, accuracies = cost.values(rows), [float(value) for value in rows["test_accuracy_mean"]]
    groups = [group for _, group in rows.groupby("family", sort=False)]
    front = pareto_front(values, accuracies)
    end = max(value for value in values if not math.isnan(value))
    said = [
        [
            f"{line}<br>{cost.label}: {values[place]:,.4g}"
            for line, place in zip(seen(group), group.index, strict=True)
        ]
        for group in groups
    ]
    shown = cost.pictured(rows, picture[0])
    low, high = math.log10(min(shown)), math.log10(max(shown))
    room = max(high - low, 0.05)
    span = low - 0.35 * room, high + 0.08 * room
    # Far beyond the picture there are ticks too, for who enlarges it.
    marks = ticks(10 ** span[0], 10 ** span[1])
    marks += [10.0**power for power in range(-6, 16) if not span[0] <= power <= span[1]]
    named = [place for place in front if accuracies[place] >= picture[0]]
    return {
        "data": {
            "x": [
                *(numbers([values[place] for place in group.index]) for group in groups),
                numbers([*(values[place] for place in front), end]),
            ],
            "y": [
                *(percents(group["test_accuracy_mean"]) for group in groups),
                percents([accuracies[place] for place in [*front, front[-1]]]),
            ],
            "hovertext": [*said, None],
        },
        "layout": {
            "xaxis.title.text": cost.label,
            "xaxis.range": numbers(span),
            "xaxis.tickvals": marks,
            "xaxis.ticktext": [plain(mark) for mark in marks],
            "annotations": _names(
                [(values[place], accuracies[place], text(rows["strategy"][place])) for place in named],
                picture,
            ),
        },
    }


def _names(points: list[tuple[float, float, str]], picture: tuple[float, float]) -> list[dict[str, Any]]:
    """Names what is on the front, up and to the left of it, where by its definition no point is."""
    low, high = picture
    gap = 16 / _PLOT * (high - low)
    heights = spread([y + gap for _, y, _ in points], gap, low + gap, high - gap / 2)
    return [
        {
            "x": round(math.log10(x), 5),
            "y": round(100 * y, 3),
            "text": name,
            "ax": -16,
            "ay": round((y - height) / (high - low) * _PLOT),
            "xanchor": "right",
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 0.8,
            "arrowcolor": GREY,
            "font": {"size": 11},
            "standoff": 4,
        }
        for (x, y, name), height in zip(points, heights, strict=True)
    ]
