"""Draws pictures for a paper, as PNG and SVG, with matplotlib."""

import math
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import style as styles
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedLocator, NullLocator

from fusion_bench.families import FAMILIES
from fusion_bench.report.palette import GRID, INK, PALE
from fusion_bench.report.plots import fonts
from fusion_bench.report.plots.labels import plain, spread
from fusion_bench.report.plots.marks import Area, Axis, Bars, HeatMap, Image, Line, Names, Picture, Points, Values

PAGE = 6.9
"""Width of both columns of a paper, in inches."""
_NOTE_SIZE = 6.0
_DASHES: dict[str, Any] = {
    "solid": "-", "dash": (0, (4, 1.2)), "dot": (0, (1, 1.6)), "dashdot": (0, (4, 1, 1, 1)), "longdash": (0, (7, 1.5)),
    "longdashdot": (0, (7, 1, 1, 1)),
}  # fmt: skip


def style(families: Sequence[str] = (fonts.USUAL,)) -> AbstractContextManager[None]:
    """Returns the context with the style of all figures; each font family supplies what those before it lack."""
    sheet = resources.files("fusion_bench.report") / "assets" / "paper.mplstyle"
    colours: dict[str, Any] = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK
    )
    colours |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), PALE) | {"grid.color": GRID}
    return styles.context([str(sheet), colours | {"font.family": [*families]}])


def write(picture: Picture, path: Path, title: str = "") -> list[Path]:
    """Writes PATH.svg and PATH.png; of separate panels PATH/PANEL.svg and PATH/PANEL.png.

    Returns the paths without endings. The title of the setting is added to the caption.

    Raises:
      OSError: the folder cannot be written to.
    """
    if picture.is_separate:
        parts = {path / re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-"): [name] for name in picture.printed}
    else:
        parts = {path: picture.printed} if picture.printed else {}
    families, _ = fonts.families([title, *fonts.texts_of(picture)])
    for part, names in parts.items():
        part.parent.mkdir(parents=True, exist_ok=True)
        with style(families), fonts.quiet():
            figure = draw(picture, names, title)
            figure.savefig(part.with_name(f"{part.name}.svg"), metadata={"Date": None})
            figure.set_layout_engine("none")  # it is laid out, which takes longer than to draw
            figure.savefig(part.with_name(f"{part.name}.png"))
    return list(parts)


def draw(picture: Picture, names: Sequence[str], title: str = "") -> Figure:
    """Returns the figure of some of a picture's panels, side by side."""
    panels = [picture.panels[name] for name in names]
    columns = min(picture.columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = picture.size
    figure = Figure((columns * width, rows * height + 0.4), layout="constrained")
    alike_x, alike_y = len({panel.x for panel in panels}) == 1, len({panel.y for panel in panels}) == 1
    grid = [*figure.subplots(rows, columns, squeeze=False, sharex=alike_x, sharey=alike_y).flat]
    for place, (axes, name, panel) in enumerate(zip(grid, names, panels, strict=False)):
        _set_axis(axes, "x", panel.x)
        _set_axis(axes, "y", panel.y)
        for mark in sorted((*picture.shared, *panel.marks), key=lambda mark: isinstance(mark, Names)):
            _MARKS[type(mark)](axes, mark)
        for row, value in enumerate(panel.values):
            axes.text(1.02, row, value, transform=axes.get_yaxis_transform(), va="center", size=6.2)
        axes.set_title(name if name != panel.x.label else "")
        axes.text(0.04, 0.95, panel.finding, transform=axes.transAxes, va="top")
        if place % columns == 0 or not alike_y:
            axes.set_ylabel(panel.y.label)
        if place + columns >= len(panels) or not alike_x:
            axes.set_xlabel(panel.x.label)
            axes.xaxis.set_tick_params(labelbottom=True)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    if picture.has_key:
        _add_key(figure)
    _annotate(figure, f"{picture.caption} {title}{'.' * bool(title)}")
    return figure


def _add_key(figure: Figure) -> None:
    """Adds the legend of all panels: families first."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {label: handle for pair in found for handle, label in zip(*pair, strict=True)}
    labels = sorted(handles, key=lambda label: label not in FAMILIES)
    width, widths = figure.get_figwidth(), [0.35 + 0.055 * len(label) for label in labels]
    columns = len(labels) if sum(widths) < width else max(1, int(width / max(widths)))
    ordered = [handles[label] for label in labels]
    figure.legend(ordered, labels, loc="outside upper center", ncols=columns, handletextpad=0.4)


def _annotate(figure: Figure, note: str) -> None:
    """Writes a note below a figure and makes room for it."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(note, int(width * 72 / (0.53 * _NOTE_SIZE)))
    room = (len(lines) * 1.35 * _NOTE_SIZE + 4) / 72
    height += room
    figure.set_figheight(height)
    figure.get_layout_engine().set(rect=(0, room / height, 1, 1 - room / height))  # type: ignore[union-attr, call-arg]
    text, bottom = "\n".join(lines), 3 / 72 / height
    figure.text(0.01, bottom, text, size=_NOTE_SIZE, color="#565b63", va="bottom", linespacing=1.3)


def _set_axis(axes: Axes, which: Literal["x", "y"], axis: Axis) -> None:
    own = axes.xaxis if which == "x" else axes.yaxis
    if axis.is_log:
        axes.set(**{f"{which}scale": "log"})
        own.set_minor_locator(NullLocator())
    if axis.ends is not None:
        axes.set(**{f"{which}lim": axis.ends[:: -1 if axis.names and which == "y" else 1]})
    if axis.names:
        own.set_ticks(range(len(axis.names)), axis.names, rotation=90 if which == "x" else 0)
    elif axis.ticks is not None:
        own.set_major_locator(FixedLocator(axis.ticks))
        own.set_major_formatter(lambda value, _: plain(value))


def _draw_points(axes: Axes, mark: Points) -> None:
    look = FAMILIES[mark.family]
    hollow = mark.fill == "none"
    axes.errorbar(
        mark.x, mark.y, xerr=_known(mark.x_interval), yerr=_known(mark.y_interval), fmt=look.marker, color=look.colour,
        label=mark.label, fillstyle=mark.fill, markerfacecoloralt="white", markersize=4.5, ecolor=PALE, elinewidth=0.7,
        markeredgecolor=look.colour if hollow else INK, markeredgewidth=1.0 if hollow else 0.4,
    )  # fmt: skip
    for x, y in zip(mark.x, mark.y, strict=True):
        if len(mark.x_interval) and x < axes.get_xlim()[0]:
            axes.text(0.01, y, "◂", transform=axes.get_yaxis_transform(), va="center", ha="left", color=PALE)


def _draw_line(axes: Axes, mark: Line) -> None:
    is_main = mark.width > 1
    outline = [Stroke(linewidth=mark.width + 0.6, foreground=INK), Normal()]
    axes.plot(
        mark.x, mark.y, label=mark.label, color=mark.colour, linestyle=_DASHES[mark.dash], linewidth=mark.width,
        drawstyle="steps-post" if mark.is_step else "default", zorder=3 if is_main else 1.5,
        path_effects=outline if is_main and not mark.family else None,
        marker=FAMILIES[mark.family].marker if mark.family else "", markersize=3.5, markeredgecolor=INK,
        markeredgewidth=0.3,
    )  # fmt: skip


def _draw_area(axes: Axes, mark: Area) -> None:
    axes.fill(mark.x, mark.y, color=mark.colour, alpha=0.2, linewidth=0, zorder=1)


def _draw_bars(axes: Axes, mark: Bars) -> None:
    style: Any = {"color": [mark.shade], "ecolor": INK, "error_kw": {"elinewidth": 0.7}, "linewidth": 0}
    base = np.asarray(mark.base, float) if len(mark.base) else np.zeros(len(mark.x))
    if mark.is_lying:
        style |= {"xerr": _known(mark.interval), "left": base}
        axes.barh(mark.x, mark.heights, mark.width, label=mark.label, **style)
    else:
        axes.bar(mark.x, mark.heights, mark.width, base, yerr=_known(mark.interval), label=mark.label, **style)


def _known(widths: Values) -> np.ndarray | None:
    """Returns half widths of intervals, 0 for NaN; None for none."""
    return np.nan_to_num(np.asarray(widths, float)) if len(widths) else None


def _draw_heat_map(axes: Axes, mark: HeatMap) -> None:
    rows, columns = mark.values.shape
    low, high = mark.limits
    colours = LinearSegmentedColormap.from_list("", mark.scale, N=512)
    edges = (np.arange(count + 1) - 0.5 for count in (columns, rows))
    values = np.ma.masked_invalid(mark.values)
    axes.pcolormesh(*edges, values, cmap=colours, vmin=low, vmax=high, edgecolors="w", linewidth=0.8)
    for row, cells in enumerate(mark.texts):
        for column, text in enumerate(cells):
            shade = colours((mark.values[row, column] - low) / (high - low))
            axes.text(column, row, text, ha="center", va="center", size=5.5, color="w" if _is_dark(shade) else INK)
    for label, shade in mark.legend.items():
        axes.scatter([], [], marker="s", color=[shade], label=label)
    axes.set_aspect("equal")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _is_dark(shade: tuple[float, float, float, float]) -> bool:
    """Returns whether white is read more easily than ink on a shade over white: by its relative luminance (WCAG 2)."""
    colour = np.array(shade[:3]) * shade[3] + 1 - shade[3]
    linear = np.where(colour > 0.04045, ((colour + 0.055) / 1.055) ** 2.4, colour / 12.92)
    return float(linear @ (0.2126, 0.7152, 0.0722)) < 0.2


def _draw_image(axes: Axes, mark: Image) -> None:
    axes.imshow(mark.pixels)
    axes.set_axis_off()
    axes.text(0.0, -0.04, mark.text, transform=axes.transAxes, va="top", size=5.2)


def _draw_names(axes: Axes, mark: Names) -> None:
    """Writes names where they do not overlap, each with a line to its point."""
    to_fraction = axes.transData + axes.transAxes.inverted()
    places = to_fraction.transform(np.column_stack([mark.x, mark.y])) if len(mark.texts) else np.empty((0, 2))
    gap = 0.14 / (axes.get_window_extent().height / axes.figure.dpi)
    is_left = mark.side == "left"
    low, high = (gap, 1 - gap) if is_left else (0.0, 1.0)
    heights = spread([y + gap * is_left for _, y in places], gap, low, high)
    for x, y, name, (fraction, _), height in zip(mark.x, mark.y, mark.texts, places, heights, strict=True):
        axes.annotate(
            name, (x, y), (fraction - 0.05 if is_left else 1.05, height), textcoords="axes fraction", va="center",
            ha="right" if is_left else "left", size=6, fontweight="bold" if name in mark.bold else "normal", zorder=4,
            annotation_clip=False, bbox={"facecolor": "w", "edgecolor": "none", "pad": 0.4} if is_left else None,
            arrowprops={
                "arrowstyle": "-", "color": PALE, "linewidth": 0.4, "relpos": (float(is_left), 0.5), "shrinkA": 1,
                "shrinkB": 0,
            },
        )  # fmt: skip


_MARKS: dict[type, Callable[[Axes, Any], None]] = {
    Points: _draw_points, Line: _draw_line, Area: _draw_area, Bars: _draw_bars, HeatMap: _draw_heat_map,
    Image: _draw_image, Names: _draw_names,
}  # fmt: skip
