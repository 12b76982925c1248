"""Contribution of each modality to each strategy: one number a strategy, with its interval."""

import numpy as np
import pandas as pd

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
    """Returns a panel for each value that strategies have; a strategy without any is left out."""
    named = {
        match[0]: title.format(**match.groupdict())
        for pattern, title in TITLES.items()
        for match in found.diagnosed(pattern)
    }
    has_some = [~np.isnan(found.values(name)[0]) for name in named]
    if not has_some:
        return None
    rows = found.measured.loc[np.any(has_some, axis=0)].reset_index(drop=True)
    panels, count = {title: _panel(found, name, rows) for name, title in named.items()}, len(rows)
    return Picture(
        "contributions", "What each modality contributes",
        f"Mean over {found.seeds_text(rows['strategy'])}; bars: {INTERVAL}. A missing modality is another example's.",
        panels, chooser="value", size=(3.45, 0.9 + 0.155 * count), height=150 + 20 * count, has_key=False,
    )  # fmt: skip


def _panel(found: Findings, name: str, rows: pd.DataFrame) -> Panel:
    means, widths = (100 * values for values in found.values(name, rows))
    marks: list[Points | Line] = [Line((0.0, 0.0), (-0.5, len(means) - 0.5), dash="dot")] if (means < 0).any() else []
    for family, of_family in rows.groupby("family", sort=False):
        places = of_family.index.to_numpy()[~np.isnan(means[of_family.index])]
        hover = [f"{rows['strategy'][p]}\n{means[p]:.2f} ± {widths[p]:.2f}" for p in places]
        if len(places):
            look = {"family": str(family), "label": str(family), "hover": hover}
            marks.append(Points(means[places], places, x_interval=widths[places], **look))
    return Panel(marks, Axis(), Axis(names=tuple(rows["strategy"])))
