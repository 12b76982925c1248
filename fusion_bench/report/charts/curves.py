"""Learning curves of a chosen family."""

import numpy as np
import plotly.graph_objects as go

from fusion_bench.report.charts.chart import SEEDS, Chart, figure_of, marker, percents, shade, text
from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import percent
from fusion_bench.report.palette import LOOKS


def draw(found: Findings) -> Chart | None:
    """Returns means with their bands: of the best of each family, or of one family."""
    if not found.curves:
        return None
    traces: list[go.Scatter] = []
    owners = []
    for strategy, band in found.curves.items():
        colour = LOOKS[found.families[strategy]].colour
        width = np.nan_to_num(band.half_width)
        upper, lower = np.clip(band.mean + width, 0, 1), np.clip(band.mean - width, 0, 1)
        places = [int(epoch) for epoch in band.x]
        traces.append(
            go.Scatter(
                x=[*places, *reversed(places)],
                y=[*percents(upper), *reversed(percents(lower))],
                fill="toself",
                mode="lines",
                fillcolor=shade(colour, 0.15),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=text(strategy),
            )
        )
        traces.append(
            go.Scatter(
                x=places,
                y=percents(band.mean),
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": _dash(found, strategy)},
                marker=marker(found.families[strategy], 7),
                name=text(strategy),
                legendgroup=text(strategy),
                hovertext=[
                    f"<b>{text(strategy)}</b><br>epoch {epoch}: {percent(*point)} %"
                    for epoch, *point in zip(places, band.mean, band.half_width, strict=True)
                ],
                hoverinfo="text",
            )
        )
        owners.append(strategy)
    families = list(dict.fromkeys(found.families[strategy] for strategy in owners))
    chosen = {"the best of each family on validation": found.leaders} | {
        family: [strategy for strategy in owners if found.families[strategy] == family] for family in families
    }
    choices = {
        label: {"data": {"visible": [s in shown for s in owners for _ in range(2)]}, "layout": {}}
        for label, shown in chosen.items()
        if set(shown) & set(owners)
    }
    for trace, visible in zip(traces, next(iter(choices.values()))["data"]["visible"], strict=True):
        trace.visible = visible
    epochs = max(float(band.x[-1]) for band in found.curves.values())
    figure = figure_of(
        traces,
        460,
        xaxis={"title": {"text": "epoch"}, "dtick": max(1, round(epochs / 10))},
        yaxis={"title": {"text": "validation accuracy, %"}},
    )
    untrained = [strategy for strategy in found.measured["strategy"] if strategy not in found.curves]
    return Chart(
        "curves",
        "Learning curves",
        f"Mean validation accuracy over {found.said_of(owners)}; bands: {SEEDS}."
        + (f" Joined after training, so without a curve: {', '.join(untrained)}." if untrained else ""),
        figure,
        choices,
        "family",
    )


def _dash(found: Findings, strategy: str) -> str:
    """Returns the dashes that tell a strategy from others of its family; its best one's line is solid."""
    family = [name for name in found.curves if found.families[name] == found.families[strategy]]
    family.sort(key=lambda name: name not in found.leaders)
    return ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")[family.index(strategy) % 6]
