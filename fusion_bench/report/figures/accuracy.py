"""Accuracy by strategy, with ceilings and the Bayes reference as lines."""

from typing import TYPE_CHECKING

from fusion_bench.report.figures.canvas import INK, PAGE, PALE, annotate, canvas, in_percent
from fusion_bench.report.findings import Findings, focus
from fusion_bench.report.notes import percent
from fusion_bench.report.palette import LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(found: Findings) -> "Figure | None":
    """Returns the figure: all accuracies to the left, the best ones enlarged to the right."""
    rows = found.measured
    if rows.empty:
        return None
    low, high = focus(found.block)
    enlarged = found.lowest < low
    figure = canvas(PAGE, 1.45 + 0.155 * len(rows))
    panels = figure.subplots(
        1, 1 + enlarged, squeeze=False, sharey=True, width_ratios=[1, 1.35][: 1 + enlarged]
    )
    for axes in panels[0]:
        _points(axes, rows)
        _lines(axes, found)
        in_percent(axes, "x")
        axes.set_xlabel("test accuracy, %")
    left, right = panels[0][0], panels[0][-1]
    left.set_yticks(range(len(rows)), rows["strategy"])
    left.set_ylim(len(rows) - 0.4, -0.6)
    if enlarged:
        left.set_xlim(max(0.0, found.lowest - 0.04), min(1.02, left.get_xlim()[1]))
        right.set_xlim(low, high)
        right.set_title("enlarged")
    _values(right, rows)
    entries = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    labels = sorted(entries, key=lambda label: label not in LOOKS)  # families first
    figure.legend(
        [entries[label] for label in labels], labels, loc="outside upper center", ncols=4, handletextpad=0.4
    )
    annotate(
        figure, f"Mean over {found.said_of(rows['strategy'].tolist())}; bars: {_MEANING}. {found.title}."
    )
    return figure


_MEANING = "95 % interval over seeds (Student's t), given the split and the captions"


def _points(axes: "Axes", rows) -> None:
    for family, group in rows.groupby("family", sort=False):
        look = LOOKS[str(family)]
        axes.errorbar(
            group["test_accuracy_mean"],
            group.index,
            xerr=group["test_accuracy_ci95"].fillna(0.0),
            fmt=look.marker,
            color=look.colour,
            ecolor=INK,
            elinewidth=0.7,
            markersize=4.5,
            markeredgecolor=INK,
            markeredgewidth=0.4,
            label=str(family),
        )


def _lines(axes: "Axes", found: Findings) -> None:
    """Draws the reference with its interval, and ceilings as far as they are in the picture."""
    for row in (row for row in found.lines if row["family"] == "reference"):
        mean, width = row["test_accuracy_mean"], row["test_accuracy_ci95"]
        axes.axvline(mean, color=INK, linestyle="--", linewidth=0.8, label=row["strategy"], zorder=1)
        if width == width:
            axes.axvspan(mean - width, mean + width, color=PALE, alpha=0.25, linewidth=0, zorder=0)
    styles = {"ceiling: image only": (0, (1, 1)), "ceiling: text only": (0, (4, 1, 1, 1))}
    for row in (row for row in found.lines if row["family"] == "ceiling"):
        axes.axvline(
            row["test_accuracy_mean"],
            color=PALE,
            linestyle=styles.get(row["strategy"], ":"),
            linewidth=1.0,
            label=f"{row['strategy']} {percent(row['test_accuracy_mean'])}",
            zorder=1,
        )


def _values(axes: "Axes", rows) -> None:
    """Writes every accuracy to the right of its row, and an arrow where it lies outside."""
    low, _ = axes.get_xlim()
    place = axes.get_yaxis_transform()
    for index, row in enumerate(rows.to_dict("records")):
        text = percent(row["test_accuracy_mean"], row["test_accuracy_ci95"])
        axes.text(1.02, index, text, transform=place, va="center", size=6.2, in_layout=True)
        if row["test_accuracy_mean"] < low:
            axes.text(0.01, index, "◂", transform=place, va="center", ha="left", color=PALE)
