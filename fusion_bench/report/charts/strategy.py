"""What the logits of one chosen strategy say: accuracy by class, confusion matrix, ROC curve, calibration."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from fusion_bench.report.charts.chart import GREY, MARGIN, Chart, figure_of, numbers, percents, shade, text
from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import best_of, percent
from fusion_bench.report.palette import LOOKS

_LINE = "#3f86c0"
"""Seen on white and on black."""


def classes(found: Findings) -> Chart | None:
    """Returns the accuracy on each class, beside that of the best unimodal strategy."""
    if not found.diagnoses:
        return None
    names = [text(name) for name in found.class_names]
    choices = {
        strategy: {
            "data": {
                "y": [percents(diagnosis.classes.mean)],
                "error_y.array": [percents(np.nan_to_num(diagnosis.classes.half_width))],
            },
            "layout": {},
            "traces": [0],
        }
        for strategy, diagnosis in found.diagnoses.items()
    }
    data = next(iter(choices.values()))["data"]
    traces: list[Any] = [
        go.Bar(
            x=names,
            y=data["y"][0],
            error_y={"type": "data", "array": data["error_y.array"][0], "color": GREY, "thickness": 1.2},
            marker={"color": _LINE},
            name="chosen strategy",
        )
    ]
    best = best_of(found.block)
    if best in found.diagnoses:
        traces.append(
            go.Scatter(
                x=names,
                y=percents(found.diagnoses[best].classes.mean),
                mode="markers",
                marker={"symbol": "line-ew", "size": 22, "line": {"color": GREY, "width": 3}},
                name=text(best),
            )
        )
    figure = figure_of(
        traces,
        400,
        xaxis={"type": "category", "dtick": 1, "range": [-0.6, len(names) - 0.4]},
        yaxis={"title": {"text": "accuracy, %"}, "range": [0, 101]},
    )
    return Chart(
        "classes",
        "Accuracy by class",
        f"Percent of each class's test examples, mean over {found.said_of([*found.diagnoses])}; bars of error: 95 % "
        "interval over seeds (Student's t), of each class by itself.",
        figure,
        choices,
        "strategy",
    )


def confusion(found: Findings) -> Chart | None:
    """Returns which classes are taken for which."""
    if not found.diagnoses:
        return None
    matrices = {s: 100 * diagnosis.confusion for s, diagnosis in found.diagnoses.items()}
    choices = {
        strategy: {"data": {"z": [[numbers(row, 2) for row in matrix]]}, "layout": {}}
        for strategy, matrix in matrices.items()
    }
    names = [text(name) for name in found.class_names]
    first = next(iter(choices.values()))
    blue = LOOKS["intermediate"].colour
    trace = go.Heatmap(
        z=first["data"]["z"][0],
        x=names,
        y=names,
        zmin=0,
        zmax=100,
        colorscale=[[0, shade(blue, 0.0)], [1, shade(blue, 0.75)]],
        showscale=False,
        texttemplate="%{z:.0f}" if len(names) <= 12 else None,
        hovertemplate="%{y} taken for %{x}: %{z:.1f} %<extra></extra>",
        xgap=1,
        ygap=1,
    )
    axes = {"type": "category", "showgrid": False, "dtick": 1}
    figure = figure_of(
        [trace],
        480,
        xaxis=axes | {"title": {"text": "taken for"}},
        yaxis=axes | {"title": {"text": "class"}, "autorange": "reversed"},
    )
    return Chart(
        "confusion",
        "Confusion matrix",
        f"Percent of each class's test examples, mean over {found.said_of([*found.diagnoses])}.",
        figure,
        choices,
        "strategy",
    )


def roc(found: Findings) -> Chart | None:
    """Returns true positives by false positives, among the best of each family."""
    if not found.diagnoses:
        return None
    choices = {}
    for strategy, diagnosis in found.diagnoses.items():
        x, mean, width = diagnosis.roc.x, diagnosis.roc.mean, np.nan_to_num(diagnosis.roc.half_width)
        upper, lower = np.clip(mean + width, 0, 1), np.clip(mean - width, 0, 1)
        choices[strategy] = {
            "data": {
                "x": [percents([*x, *x[::-1]]), percents(x)],
                "y": [percents([*upper, *lower[::-1]]), percents(mean)],
            },
            "layout": {"title.text": f"{text(strategy)}: AUC {percent(*diagnosis.area)} %"},
            "traces": [0, 1],
        }
    first = next(iter(choices.values()))
    xs, ys = first["data"]["x"], first["data"]["y"]
    traces = [
        go.Scatter(
            x=xs[0],
            y=ys[0],
            mode="lines",
            fill="toself",
            fillcolor=shade(_LINE, 0.25),
            line={"width": 0},
            hoverinfo="skip",
        ),
        go.Scatter(x=xs[1], y=ys[1], mode="lines", line={"color": _LINE, "width": 2.5}, hoverinfo="x+y"),
        *(
            go.Scatter(
                x=percents(found.diagnoses[strategy].roc.x),
                y=percents(found.diagnoses[strategy].roc.mean),
                mode="lines",
                line={"color": GREY, "width": 0.7},
                opacity=0.6,
                hovertext=text(strategy),
                hoverinfo="text",
            )
            for strategy in found.leaders
            if strategy in found.diagnoses
        ),
    ]
    figure = figure_of(
        traces,
        440,
        showlegend=False,
        title={"text": first["layout"]["title.text"]},
        xaxis={"title": {"text": "false positives, %"}, "range": [0, 101], "dtick": 20},
        yaxis={"title": {"text": "true positives, %"}, "range": [0, 101]},
    )
    return Chart(
        "roc",
        "ROC curve",
        f"Each class against the others, mean over classes and over {found.said_of([*found.diagnoses])}; band and ±: "
        "95 % interval over seeds. Thin: the best of each family on validation.",
        figure,
        choices,
        "strategy",
    )


def calibration(found: Findings) -> Chart | None:
    """Returns accuracy by confidence."""
    if not found.diagnoses:
        return None
    choices = {}
    for strategy, diagnosis in found.diagnoses.items():
        bins = diagnosis.calibration
        part = bins.count / max(int(bins.count.sum()), 1)
        said = [
            f"{count:,} examples<br>confidence {confidence:.1%}, accuracy {accuracy:.1%}"
            for confidence, accuracy, count in zip(*bins, strict=True)
        ]
        choices[strategy] = {
            "data": {
                "x": [percents(bins.confidence), percents((np.arange(len(part)) + 0.5) / len(part))],
                "y": [percents(bins.accuracy), percents(part)],
                "hovertext": [said, said],
            },
            "layout": {"title.text": f"{text(strategy)}: ECE {percent(*diagnosis.calibration_error)} %"},
            "traces": [0, 1],
        }
    first = next(iter(choices.values()))
    data = first["data"]
    traces = [
        go.Scatter(
            x=data["x"][0],
            y=data["y"][0],
            hovertext=data["hovertext"][0],
            hoverinfo="text",
            mode="lines+markers",
            name="accuracy of the bin",
            line={"color": _LINE, "width": 2},
            marker={"size": 8},
        ),
        go.Bar(
            x=data["x"][1],
            y=data["y"][1],
            hovertext=data["hovertext"][1],
            hoverinfo="text",
            name="part of the examples",
            marker={"color": GREY, "opacity": 0.35},
        ),
        go.Scatter(
            x=[0, 100],
            y=[0, 100],
            mode="lines",
            line={"dash": "dot", "color": GREY, "width": 1},
            hoverinfo="skip",
            showlegend=False,
        ),
    ]
    figure = figure_of(
        traces,
        440,
        bargap=0.05,
        title={"text": first["layout"]["title.text"]},
        xaxis={"title": {"text": "confidence, %"}, "range": [0, 101], "dtick": 20},
        yaxis={"title": {"text": "%"}, "range": [0, 102]},
    )
    figure.update_layout(margin={**MARGIN, "t": 62})
    return Chart(
        "calibration",
        "Calibration",
        f"Test examples of all seeds, {found.said_of([*found.diagnoses])}, in bins of confidence; ±: 95 % interval "
        "over seeds of the expected calibration error, ECE. On the dotted line confidence is right.",
        figure,
        choices,
        "strategy",
    )
