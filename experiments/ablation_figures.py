"""The figures of the ablations: accuracy along a sweep, or side by side at its points."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from ablation import CEILING, JOINED

from fusion_bench.report.figures.canvas import INK, PAGE, PALE, STYLE, annotate, canvas, in_percent, save
from fusion_bench.report.labels import spread
from fusion_bench.report.palette import LOOKS

EXACT = (CEILING, "reference")
"""Families that are computed: drawn as lines, not as points."""


def draw_lines(
    frame: pd.DataFrame,
    path: Path,
    *,
    label: str,
    note: str,
    place: Callable[[Any], float] = float,
    log: bool = False,
    legend: bool = False,
) -> None:
    """Draws the accuracy of each strategy along a sweep, with bands; ceilings and the reference as dashed lines.

    Args:
      frame: from `ablation.sweep`.
      path: PATH.svg and PATH.png are written.
      label: of the horizontal axis.
      note: below the figure.
      place: where a point stands on the horizontal axis.
      log: whether the horizontal axis is logarithmic.
      legend: name the lines in a legend, for lines that end in one point; else at their ends.
    """
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = canvas(PAGE, 3.6)
        axes = figure.subplots()
        ends = {}
        shades: dict[str, int] = {}
        for strategy, group in frame.groupby("strategy", sort=False):
            family = group["family"].iloc[0]
            by_x = sorted((place(row["x"]), row) for row in group.to_dict("records"))
            xs = [x for x, _ in by_x]
            means = pd.Series([row["test_accuracy_mean"] for _, row in by_x])
            exact = family in EXACT
            if means.isna().all():
                continue
            number = shades[family] = shades.get(family, -1) + 1
            look = LOOKS[family]
            colour = PALE if exact else look.colour
            dashes: Any = ("--", ":") if family == CEILING else ("-", (0, (4, 1.2)), (0, (1, 1)))
            style = "-." if family == "reference" else dashes[number % len(dashes)]
            axes.plot(
                xs, means, label=strategy, linestyle=style, color=colour,
                marker=None if exact else look.marker, markersize=3.5,
                markeredgecolor=INK, markeredgewidth=0.3, zorder=2 if exact else 3,
            )  # fmt: skip
            widths = pd.Series([row["test_accuracy_ci95"] for _, row in by_x])
            if not exact and widths.notna().any():
                axes.fill_between(xs, means - widths, means + widths, color=colour, alpha=0.15, linewidth=0)
            ends[strategy] = float(means.iloc[-1])
        if log:
            axes.set_xscale("log")
            places = sorted(set(map(place, frame["x"])))
            axes.set_xticks(places, [f"{x:,g}" for x in places])
            axes.minorticks_off()
        low, high = axes.get_ylim()
        low, high = max(low, 0.0), min(high, 1.02)
        axes.set_ylim(low, high)
        if legend:
            axes.legend(loc="best", ncols=2, handlelength=3.5)
        else:
            _name_ends(axes, ends, max(map(place, frame["x"])))
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy, %")
        in_percent(axes)
        annotate(figure, note)
        save(figure, path)


def _name_ends(axes: Any, ends: Mapping[Any, float], last: float) -> None:
    """Writes the name of each line beside its end."""
    low, high = axes.get_ylim()
    places = spread(list(ends.values()), 0.042 * (high - low), low, high)
    for (strategy, end), y in zip(ends.items(), places, strict=True):
        axes.annotate(
            str(strategy), (last, end), (1.04, y), textcoords=axes.get_yaxis_transform(), va="center", size=6,
            color=INK, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.4, "relpos": (0, 0.5)},
        )  # fmt: skip


def draw_dots(
    frame: pd.DataFrame,
    path: Path,
    *,
    label: str,
    note: str,
    of: str = "test_accuracy",
    share: bool = True,
    hollow: Callable[[Mapping[Hashable, Any]], bool] = lambda row: False,
) -> None:
    """Draws each join as a point with its interval, in a panel for each point of a sweep; the reference as a line.

    Args:
      frame: from `ablation.sweep`.
      path: PATH.svg and PATH.png are written.
      label: of the horizontal axes.
      note: below the figure.
      of: "test_accuracy" or "gain".
      share: one scale for all panels.
      hollow: whether a row's marker is not filled.
    """
    shown = frame.loc[frame[f"{of}_mean"].notna()]
    trained = shown.loc[shown["family"].isin(JOINED)]
    strategies = list(dict.fromkeys(trained["strategy"]))
    points = list(dict.fromkeys(frame["x"]))
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = canvas(PAGE, 1.2 + 0.17 * len(strategies))
        panels = figure.subplots(1, len(points), squeeze=False, sharex=share, sharey=True)[0]
        for axes, point in zip(panels, points, strict=True):
            for row in trained.loc[trained["x"] == point].to_dict("records"):
                look, width = LOOKS[row["family"]], row[f"{of}_ci95"]
                axes.errorbar(
                    row[f"{of}_mean"], strategies.index(row["strategy"]), xerr=0.0 if pd.isna(width) else width,
                    label=row["family"], fmt=look.marker, color=look.colour, markersize=4.5,
                    markerfacecolor="white" if hollow(row) else look.colour,
                    markeredgecolor=look.colour if hollow(row) else INK,
                    markeredgewidth=1.0 if hollow(row) else 0.4, ecolor=INK, elinewidth=0.7,
                )  # fmt: skip
            references = shown.loc[(shown["x"] == point) & (shown["family"] == "reference")]
            for row in references.to_dict("records"):
                name = row["strategy"]
                axes.axvline(
                    row[f"{of}_mean"], color=INK, linestyle="--", linewidth=0.8, label=name, zorder=1
                )
            axes.set(title=str(point), xlabel=label)
            in_percent(axes, "x")
        panels[0].set_yticks(range(len(strategies)), strategies)
        panels[0].set_ylim(len(strategies) - 0.4, -0.6)
        handles, names = panels[0].get_legend_handles_labels()
        shown_once = dict(zip(reversed(names), reversed(handles), strict=True))
        labels = [name for name in LOOKS if name in shown_once] + [n for n in shown_once if n not in LOOKS]
        figure.legend(
            [shown_once[name] for name in labels], labels, loc="outside upper center", ncols=len(labels),
            handletextpad=0.4,
        )  # fmt: skip
        annotate(figure, note)
        save(figure, path)
