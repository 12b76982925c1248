"""Pictures as numbers with a look: marks in panels with axes. `matplotlib` and `plotly` draw them alike."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num, UInt8

from fusion_bench.report.palette import INK, Shade
from fusion_bench.report.plots.labels import ticks

Values = Sequence[int | float] | Num[np.ndarray, " value"]
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclasses.dataclass(frozen=True)
class Points:
    """Markers of one family, with intervals along either axis.

    Attributes:
      x_interval, y_interval: half widths, NaN for none; empty for no intervals.
      hover: text of each point on the page; its first line is bold.
      fill: "full", "none", or the half that is filled: "left", "right", "top" or "bottom".
    """

    x: Values
    y: Values
    family: str
    x_interval: Values = ()
    y_interval: Values = ()
    label: str = ""
    hover: Sequence[str] = ()
    fill: str = "full"


@dataclasses.dataclass(frozen=True)
class Line:
    """A line through points.

    Attributes:
      width: in points.
      family: the family whose markers are drawn at its points; "" for none.
      is_step: whether it keeps its height up to the next point.
      is_hidden: whether the page shows it only after a click on its label.
    """

    x: Values
    y: Values
    label: str = ""
    colour: str = INK
    dash: str = "solid"
    width: float = 0.8
    family: str = ""
    is_step: bool = False
    is_hidden: bool = False
    hover: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Area:
    """A translucent polygon; `label` is that of the line that it belongs to."""

    x: Values
    y: Values
    colour: str
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Bars:
    """Bars with intervals.

    Attributes:
      x: places; along y if they lie.
      base: where each begins; zero if empty.
    """

    x: Values
    heights: Values
    width: float
    shade: Shade
    label: str = ""
    interval: Values = ()
    hover: Sequence[str] = ()
    base: Values = ()
    is_lying: bool = False


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Cells at whole numbers, from (0, 0); NaN is left blank.

    Attributes:
      scale: positions from 0 to 1 in the range of values with their colours, interpolated between.
      limits: the range of values.
      texts: in the cells; empty for none.
      legend: colours by label.
    """

    values: Float[np.ndarray, "row column"]
    scale: Sequence[tuple[float, Shade]]
    limits: tuple[float, float]
    texts: Sequence[Sequence[str]] = ()
    hover: Sequence[Sequence[str]] = ()
    legend: Mapping[str, Shade] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Image:
    """An RGB image with a text below it; only on paper."""

    pixels: UInt8[np.ndarray, "height width 3"]
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of points, above and to the left of each, or (only on paper) at the right edge."""

    x: Values
    y: Values
    texts: Sequence[str]
    bold: Sequence[str] = ()
    side: Literal["left", "edge"] = "edge"


Mark = Points | Line | Area | Bars | HeatMap | Image | Names


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
      limits: None where they follow from the marks.
      names: of 0, 1, 2 and so on; along y the first is at the top.
      ticks: None where they follow from the limits.
    """

    label: str = ""
    limits: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    ticks: tuple[float, ...] | None = None
    is_log: bool = False

    @property
    def ends(self) -> tuple[float, float] | None:
        """The limits; half a place beyond the names, if there are any."""
        return (-0.55, len(self.names) - 0.45) if self.names else self.limits


def log_axis(label: str, low: float, high: float) -> Axis:
    """Returns a logarithmic axis; it has ticks beyond its limits too, for zooming out."""
    beyond = [10.0**power for power in range(-6, 16) if not low <= 10.0**power <= high]
    return Axis(label, (low, high), ticks=(*ticks(low, high), *beyond), is_log=True)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One coordinate system.

    Attributes:
      finding: one number for its heading: "AUC 93.10 %".
      values: texts at the right of each named row on paper; the page shows them on hover.
    """

    marks: Sequence[Mark]
    x: Axis
    y: Axis
    finding: str = ""
    values: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """Panels with one caption: side by side on paper, one at a time on the page.

    Attributes:
      name: of its file and of its element.
      caption: states n and the meaning of ± and bands.
      panels: by heading, which the selector on the page lists.
      shared: marks of every panel.
      chooser: label of that selector; pictures with the same label switch together.
      paper: headings of the panels that are printed; all if None.
      page: headings of the panels on the page; all if None.
      size: of a panel on paper, in inches.
      columns: number of panels side by side on paper.
      height: on the page, in pixels.
      has_key: whether there is a legend on paper.
      is_separate: whether every panel is printed to its own file.
      is_wide: whether it keeps its width on a narrow screen.
      hint: sentence for the page alone, about its use.
    """

    name: str
    title: str
    caption: str
    panels: Mapping[str, Panel]
    shared: Sequence[Mark] = ()
    chooser: str = ""
    paper: Sequence[str] | None = None
    page: Sequence[str] | None = None
    size: tuple[float, float] = (3.45, 2.2)
    columns: int = 2
    height: int = 460
    has_key: bool = True
    is_separate: bool = False
    is_wide: bool = False
    hint: str = ""

    @property
    def printed(self) -> list[str]:
        return list(self.panels if self.paper is None else self.paper)

    @property
    def shown(self) -> list[str]:
        return list(self.panels if self.page is None else self.page)


def band(x: Values, mean: Values, half_width: Values, **look: Any) -> list[Area]:
    """Returns the area within `half_width` of a mean, between 0 and 100 %; nothing if all half widths are NaN."""
    known = ~np.isnan(np.asarray(half_width, float))
    places, middle, width = (np.asarray(values, float)[known] for values in (x, mean, half_width))
    low, high = (middle - width).clip(0, 100), (middle + width).clip(0, 100)
    outline = np.concatenate([places, places[::-1]]), np.concatenate([high, low[::-1]])
    return [Area(*outline, **look)] if known.any() else []


def curve(x: Values, mean: Values, half_width: Values, label: str, colour: str, **look: Any) -> list[Line | Area]:
    """Returns a mean with its band."""
    return [Line(x, mean, label, colour, **look), *band(x, mean, half_width, colour=colour, label=label)]
