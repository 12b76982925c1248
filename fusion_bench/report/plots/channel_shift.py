"""Accuracy on captions of other channels than that of training, as a heat map."""

import numpy as np

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import BLUE
from fusion_bench.report.plots.marks import Axis, HeatMap, Panel, Picture

REFERENCES = {"Bayes, channel known": "bayes_on_{}", "Bayes, channel of training": "mismatched_bayes_on_{}"}
"""The rows above the strategies: what is left to be known, and what is left without knowing of the change."""


def picture(found: Findings) -> Picture | None:
    """Returns the accuracy of each strategy on each channel, below the two Bayes accuracies."""
    channels = [match[1] for match in found.diagnosed(r"accuracy_on_(.+)")]
    rows = found.measured
    is_shown = (
        [bool((~np.isnan([found.values(f"accuracy_on_{c}", rows)[0][r] for c in channels])).any()) for r in rows.index]
        if channels
        else []
    )
    if not any(is_shown):
        return None
    strategies = [name for name, shown in zip(rows["strategy"], is_shown, strict=True) if shown]
    own = {name: [_mean(found, form.format(channel)) for channel in channels] for name, form in REFERENCES.items()}
    accuracies = np.array([found.values(f"accuracy_on_{channel}", rows)[0] for channel in channels]).T[is_shown]
    cells = 100 * np.concatenate([np.array([*own.values()]), accuracies])
    names = (*own, *strategies)
    texts = [["" if np.isnan(cell) else f"{cell:.0f}" for cell in row] for row in cells]
    hover = [
        [f"{name}, tested on {channel}\n{cell:.2f} %" for channel, cell in zip(channels, row, strict=True)]
        for name, row in zip(names, cells, strict=True)
    ]
    scale = [(0.0, (BLUE, 0.0)), (1.0, (BLUE, 0.9))]
    trained = found.block.data["captions"]
    panel = Panel(
        [HeatMap(cells, scale, (0.0, 100.0), texts, hover)],
        Axis("channel of the test captions", names=tuple(channels)),
        Axis(names=names),
    )
    return Picture(
        "channel-shift", "Captions of another channel",
        f"Accuracy in percent of models trained on the channel {trained}, mean over {found.seeds_text(strategies)}. "
        "The first row decides with the table of the test captions and this image model, the second with that of "
        "training: between them is what a model cannot know, below the second what it could have done.",
        {panel.x.label: panel}, size=(max(3.4, 1.6 + 0.36 * len(channels)), 1.2 + 0.24 * len(names)), columns=1,
        height=220 + 26 * len(names), has_key=False, is_wide=True,
    )  # fmt: skip


def _mean(found: Findings, name: str) -> float:
    values = found.values(name)[0]
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else np.nan
