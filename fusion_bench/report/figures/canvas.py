"""A figure for a paper: its width, its fonts, and below it what its marks mean."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Width of a paper's column, in inches."""
PAGE = 6.9
"""Width of both columns."""
INK = "#22262c"
PALE = "#8b9099"
GRID = "#dfe2e6"
_NOTE_SIZE = 6.0
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "font.family": ["DejaVu Sans"],
    "font.size": 7,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.2,
    "lines.scale_dashes": False,  # a line keeps its dashes over a wider one
    "mathtext.default": "regular",
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fusion_bench",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 6.5,
    "xtick.major.size": 2,
    "xtick.major.width": 0.6,
    "xtick.minor.size": 1.2,
    "ytick.color": PALE,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 6.5,
    "ytick.major.size": 2,
    "ytick.major.width": 0.6,
}


def canvas(width: float, height: float) -> "Figure":
    """Returns an empty figure, in inches, to be drawn on under `STYLE`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def annotate(figure: "Figure", note: str) -> None:
    """Writes a note below a figure and makes room for it."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(note, int(width * 72 / (0.53 * _NOTE_SIZE)))
    room = (len(lines) * 1.35 * _NOTE_SIZE + 4) / 72 / height
    engine = figure.get_layout_engine()
    engine.set(rect=(0, room, 1, 1 - room))  # type: ignore[union-attr, call-arg]  # the constrained one's
    figure.text(
        0.01,
        3 / 72 / height,
        "\n".join(lines),
        size=_NOTE_SIZE,
        color="#565b63",
        va="bottom",
        linespacing=1.3,
    )


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PATH.svg and PATH.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
    figure.savefig(path.with_name(f"{path.name}.png"))


def in_percent(axes: "Axes", which: str = "y") -> None:
    """Labels axes of fractions in percent."""
    from matplotlib.ticker import FuncFormatter

    for name in which:
        axis = axes.yaxis if name == "y" else axes.xaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
