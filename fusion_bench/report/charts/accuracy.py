"""Accuracy by strategy."""

import plotly.graph_objects as go

from fusion_bench.report.charts.chart import GREY, SEEDS, Chart, figure_of, marker, percents, seen, text
from fusion_bench.report.findings import Findings, focus
from fusion_bench.report.notes import percent


def draw(found: Findings) -> Chart | None:
    """Returns every strategy's mean and interval, the best enlarged or all."""
    rows = found.measured
    if rows.empty:
        return None
    traces = [
        go.Scatter(
            x=percents(group["test_accuracy_mean"]),
            y=[text(strategy) for strategy in group["strategy"]],
            error_x={
                "array": percents(group["test_accuracy_ci95"].fillna(0.0)),
                "thickness": 1.2,
                "color": GREY,
                "width": 0,
            },
            mode="markers",
            marker=marker(str(family)),
            name=str(family),
            hovertext=seen(group),
            hoverinfo="text",
        )
        for family, group in rows.groupby("family", sort=False)
    ]
    for row in found.lines:
        label = f"{text(row['strategy'])}: {percent(row['test_accuracy_mean'], row['test_accuracy_ci95'])} %"
        x = 100 * row["test_accuracy_mean"]
        dash = "dash" if row["family"] == "reference" else "dot"
        ends = [text(rows["strategy"].iloc[0]), text(rows["strategy"].iloc[-1])]
        traces.append(
            go.Scatter(
                x=[x, x],
                y=ends,
                mode="lines",
                name=text(row["strategy"]),
                line={"dash": dash, "color": GREY, "width": 1.5},
                hovertext=label,
                hoverinfo="text",
                visible=True if row["family"] == "reference" else "legendonly",
            )
        )
    low, high = (round(100 * end, 2) for end in focus(found.block))
    names = [text(strategy) for strategy in rows["strategy"]]
    figure = figure_of(
        traces,
        150 + 20 * len(rows),
        xaxis={"title": {"text": "test accuracy, %"}, "range": [low, high]},
        yaxis={"categoryorder": "array", "categoryarray": names, "autorange": "reversed", "dtick": 1},
    )
    whole = [round(100 * found.lowest - 3, 2), 103.0]
    choices = {
        "the best, enlarged": {"data": {}, "layout": {"xaxis.range": [low, high]}},
        "all": {"data": {}, "layout": {"xaxis.range": whole}},
    }
    return Chart(
        "accuracy",
        "Accuracy",
        f"Mean test accuracy over {found.said_of(rows['strategy'].tolist())}; bars: {SEEDS}. "
        "Ceilings are drawn by a click on their names.",
        figure,
        choices if 100 * found.lowest < low else {},
        "range",
    )
