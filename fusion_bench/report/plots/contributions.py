"""Contribution of each modality to each strategy: one number a strategy, with its interval."""

import numpy as np

from fusion_bench.report.findings import Findings
from fusion_bench.report.plots.marks import Axis, Line, Panel, Picture, Points
from fusion_bench.report.text import INTERVAL

TITLES = {
    r"shapley_(?P<of>[^_]+)": "Shapley value of {of}, points of accuracy",
    r"cooperation": "cooperation of the modalities, points of accuracy",
    r"emap_gap": "EMAP gap, points of accuracy: lost without interactions",
    r"accuracy_without_(?P<of>[^_]+)": "accuracy without {of}, %",
    r"perceptual_score_(?P<of>[^_]+)": "perceptual score of {of}, % of the accuracy",
    r"probe_(?P<of>(?!gap)[^_]+)": "accuracy of a linear probe on the features of {of}, %",
    r"probe_gap_(?P<of>[^_]+)": "probe gap of {of}, points below the encoder trained alone",
}
"""Heading by the name of a value, in the order of the panels."""


def picture(found: Findings) -> Picture | None:
    """Returns a panel for each value that strategies have."""
    panels, y = {}, Axis(names=tuple(found.measured["strategy"]))
    for pattern, title in TITLES.items():
        for match in found.diagnosed(pattern):
            panels[title.format(**match.groupdict())] = _panel(found, match[0], y)
    if not panels:
        return None
    count = len(found.measured)
    return Picture(
        "contributions", "What each modality contributes",
        f"Mean over {found.seeds_text(found.measured['strategy'])}; bars: {INTERVAL}. A missing modality is another "
        "example's.",
        panels, chooser="value", size=(3.45, 0.9 + 0.155 * count), height=150 + 20 * count, has_key=False,
    )  # fmt: skip


def _panel(found: Findings, name: str, y: Axis) -> Panel:
    means, widths = (100 * values for values in found.values(name))
    marks: list[Points | Line] = [Line((0.0, 0.0), (-0.5, len(means) - 0.5), dash="dot")] if (means < 0).any() else []
    for family, rows in found.measured.groupby("family", sort=False):
        places = rows.index.to_numpy()[~np.isnan(means[rows.index])]
        hover = [f"{found.measured['strategy'][p]}\n{means[p]:.2f} ± {widths[p]:.2f}" for p in places]
        if len(places):
            look = {"family": str(family), "label": str(family), "hover": hover}
            marks.append(Points(means[places], places, x_interval=widths[places], **look))
    return Panel(marks, Axis(), y)
