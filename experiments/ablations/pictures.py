"""Figures of the ablations: accuracy along a sweep, or one panel for each of its points."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from fusion_bench.families import FAMILIES, MULTIMODAL
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots import matplotlib
from fusion_bench.report.plots.marks import DASHES, Axis, Line, Mark, Names, Panel, Picture, Points, band


def lines(
    frame: pd.DataFrame,
    note: str,
    *,
    label: str,
    place: Callable[[Any], float] = float,
    log: bool = False,
    legend: bool = False,
) -> Picture:
    """Returns the accuracy of each strategy along a sweep, with bands; ceilings and the reference as dashed lines.

    Args:
      frame: of all points.
      note: below the figure.
      label: of the horizontal axis.
      place: position of a point on the horizontal axis.
      log: whether the horizontal axis is logarithmic.
      legend: name the lines in a legend instead of at their ends.
    """
    marks: list[Mark] = []
    ends: dict[str, float] = {}
    shades: dict[str, int] = {}
    for strategy, group in frame.assign(place=frame["x"].map(place)).groupby("strategy", sort=False):
        family, rows = group["family"].iloc[0], group.sort_values("place")
        columns = ("place", "test_accuracy_mean", "test_accuracy_ci95")
        x, mean, width = (rows[column].to_numpy(float) * (1 if column == "place" else 100) for column in columns)
        if pd.isna(mean).all():
            continue
        number = shades[family] = shades.get(family, -1) + 1
        look: dict[str, Any] = {"colour": PALE, "dash": "dashdot" if family == "reference" else DASHES[1 + number % 2]}
        if family in MULTIMODAL or family == "unimodal":
            look = {"colour": FAMILIES[family].colour, "dash": DASHES[number % 3], "width": 1.2, "family": family}
            marks += band(x, mean, width, colour=look["colour"])
        marks.append(Line(x, mean, str(strategy), **look))
        ends[str(strategy)] = float(mean[-1])
    places = sorted(set(map(place, frame["x"])))
    if not legend:
        last = [places[-1]] * len(ends)
        marks.append(Names(last, [*ends.values()], [*ends]))
    axis = Axis(label, ticks=tuple(places) if log else None, is_log=log)
    panel = Panel(marks, axis, Axis("test accuracy, %"))
    return Picture("figure", "", note, {"": panel}, size=(matplotlib.PAGE, 3.2), has_key=legend)


def dots(
    frame: pd.DataFrame,
    note: str,
    *,
    label: str,
    of: str = "test_accuracy",
    share: bool = True,
    hollow: Callable[[Mapping[Hashable, Any]], bool] = lambda row: False,
) -> Picture:
    """Returns each multimodal strategy as a point with its interval, a panel for each point of a sweep.

    Args:
      frame: of all points; the reference is a line.
      note: below the figure.
      label: of the horizontal axes.
      of: "test_accuracy" or "gain".
      share: one scale for all panels.
      hollow: whether a row's marker is not filled.
    """
    shown = frame.loc[frame[f"{of}_mean"].notna()]
    trained = shown.loc[shown["family"].isin(MULTIMODAL)]
    names = tuple(dict.fromkeys(trained["strategy"]))
    panels: dict[str, tuple[list[Mark], list[float]]] = {}
    for x, rows in shown.groupby("x", sort=False):
        marks, ends = panels[str(x)] = [], []
        for row in rows.to_dict("records"):
            mean, width, family = 100 * row[f"{of}_mean"], 100 * row[f"{of}_ci95"], row["family"]
            if family in MULTIMODAL:
                fill = "none" if hollow(row) else "full"
                marks.append(Points([mean], [names.index(row["strategy"])], family, [width], label=family, fill=fill))
                ends += [mean, mean] if pd.isna(width) else [mean - width, mean + width]
            elif family == "reference":
                marks.append(Line((mean, mean), (-0.5, len(names) - 0.5), row["strategy"], dash="dash"))
                ends.append(mean)
    everywhere = [end for _, ends in panels.values() for end in ends]
    drawn = {
        x: Panel(marks, Axis(label, limits(everywhere if share else ends)), Axis(names=names))
        for x, (marks, ends) in panels.items()
    }
    size = matplotlib.PAGE / len(panels), 0.8 + 0.17 * len(names)
    return Picture("figure", "", note, drawn, size=size, columns=len(panels))


def limits(values: list[float]) -> tuple[float, float]:
    margin = 0.04 * (max(values) - min(values))
    return min(values) - margin, max(values) + margin
