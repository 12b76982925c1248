"""Accuracy by strategy, with ceilings and the Bayes reference as lines."""

import dataclasses
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fusion_bench.report.findings import Findings
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import Area, Axis, Line, Panel, Picture, Points
from fusion_bench.report.text import INTERVAL, percent

FOCUS = 0.12
"""Accuracies further than this below the best are outside the enlarged part of a figure."""


def picture(found: Findings) -> Picture:
    """Returns all accuracies, and the best ones enlarged."""
    rows = found.measured
    low, high = focus(found.rows)
    lowest = float(np.min(rows["test_accuracy_mean"] - rows["test_accuracy_ci95"].fillna(0.0)))
    limits = {"all": (max(0.0, 100 * lowest - 4), 102.0)}
    if lowest < low:
        limits["the best, enlarged"] = 100 * low, 100 * high
    y = Axis(names=tuple(rows["strategy"]))
    panels = {name: Panel((), Axis("test accuracy, %", ends), y) for name, ends in limits.items()}
    last = [*panels][-1]
    panels[last] = dataclasses.replace(panels[last], values=[result(row) for row in rows.to_dict("records")])
    return Picture(
        "accuracy", "Accuracy",
        f"Mean test accuracy over {found.seeds_text(rows['strategy'])}; bars: {INTERVAL}.",
        panels, [*points(rows), *_lines(found.lines, len(rows))], "show", page=[*reversed(panels)],
        size=(3.45, 1.0 + 0.155 * len(rows)), height=150 + 20 * len(rows),
        hint="A click on the name of a ceiling shows it.",
    )  # fmt: skip


def focus(rows: pd.DataFrame) -> tuple[float, float]:
    """Returns the range of accuracy in which the best strategies, within `FOCUS` of the best, can be told apart."""
    known = rows.loc[(rows["family"] != "ceiling") & rows["test_accuracy_mean"].notna()]
    mean, width = known["test_accuracy_mean"].to_numpy(), known["test_accuracy_ci95"].fillna(0.0).to_numpy()
    near = mean >= mean.max() - FOCUS
    low = max((mean - width)[near].min(), mean.max() - 1.2 * FOCUS)
    high = min((mean + width)[near].max(), mean.max() + FOCUS / 2)  # an interval may be very wide
    margin = 0.06 * (high - low) or 0.01
    return float(low - margin), float(min(high + margin, 1.005))


def points(rows: pd.DataFrame, x: Sequence[float] = (), label: str = "") -> list[Points]:
    """Returns the mean accuracy of each row with its interval, in percent, by family.

    With a label for hovering, accuracy is along y and `x` has the places of the rows; else rows are along y.
    """
    marks = []
    for family, group in rows.groupby("family", sort=False):
        mean, width = (100 * group[f"test_accuracy_{part}"].to_numpy(float) for part in ("mean", "ci95"))
        hover = [
            f"{row['strategy']}, {family}\n{result(row)} %, n = {row['n_seeds']}"
            + (f"\n{label}: {x[place]:,.4g}" if label else "")
            for place, row in zip(group.index, group.to_dict("records"), strict=True)
        ]
        look: Any = {"family": str(family), "label": str(family), "hover": hover}
        if label:
            marks.append(Points([x[place] for place in group.index], mean, y_interval=width, **look))
        else:
            marks.append(Points(mean, group.index.to_numpy(), x_interval=width, **look))
    return marks


def result(row: Mapping[Hashable, Any]) -> str:
    """Returns a row's mean test accuracy with its interval."""
    return percent(row["test_accuracy_mean"], row["test_accuracy_ci95"])


def _lines(rows: Sequence[Mapping[Hashable, Any]], count: int) -> Iterator[Line | Area]:
    """Yields the reference with its interval, and the ceilings, across a number of rows."""
    dashes = itertools.cycle(("dot", "dashdot"))
    for row in rows:
        mean, width, ends = (100 * row["test_accuracy_mean"], 100 * row["test_accuracy_ci95"], (-0.5, count - 0.5))
        name, hover = str(row["strategy"]), [f"{row['strategy']}\n{result(row)} %"] * 2
        if row["family"] == "ceiling":
            label = f"{name} {result(row)}"
            yield Line((mean, mean), ends, label, PALE, next(dashes), 1.0, is_hidden=True, hover=hover)
            continue
        yield Line((mean, mean), ends, name, dash="dash", hover=hover)
        if not np.isnan(width):
            low, high = mean - width, mean + width
            yield Area((low, high, high, low), (ends[0], ends[0], ends[1], ends[1]), PALE, name)
