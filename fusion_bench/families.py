"""The families of a table's rows: their order, their look, and which of them are multimodal."""

from typing import NamedTuple


class Family(NamedTuple):
    """The look of a family, in print and on the page.

    Attributes:
      colour: hexadecimal; no two families have the same lightness, so that they differ in grey.
      marker: matplotlib's name of the shape of its points.
      symbol: plotly's name of the same shape.
      is_multimodal: whether its strategies are trained or fitted on several modalities.
    """

    colour: str
    marker: str
    symbol: str
    is_multimodal: bool = True


FAMILIES = {
    "unimodal": Family("#b9bdc5", "X", "x", is_multimodal=False),
    "early": Family("#e59a3a", "^", "triangle-up"),
    "intermediate": Family("#1f6cb0", "o", "circle"),
    "tensor": Family("#c75291", "s", "square"),
    "late": Family("#3fa283", "D", "diamond"),
    "reference": Family("#7d828a", "*", "star", is_multimodal=False),
    "ceiling": Family("#7d828a", "|", "line-ns", is_multimodal=False),
}
"""In the order of the rows."""
MULTIMODAL = tuple(name for name, family in FAMILIES.items() if family.is_multimodal)
