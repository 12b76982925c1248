"""How each family looks, in figures and on the page: colours apart in hue, in lightness and by shape."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Look:
    """How the strategies of a family are drawn.

    Attributes:
      colour: hexadecimal; no two families are alike in lightness, so that they are told apart in grey.
      marker: matplotlib's.
      symbol: the same shape, plotly's.
    """

    colour: str
    marker: str
    symbol: str


LOOKS = {
    "unimodal": Look("#b9bdc5", "X", "x"),
    "early": Look("#e59a3a", "^", "triangle-up"),
    "intermediate": Look("#1f6cb0", "o", "circle"),
    "tensor": Look("#c75291", "s", "square"),
    "late": Look("#3fa283", "D", "diamond"),
    "reference": Look("#7d828a", "*", "star"),
    "ceiling": Look("#7d828a", "|", "line-ns"),
}
LEVELS = ((0.001, "#0d4a80"), (0.01, "#3f86c0"), (0.05, "#93c0e2"))
"""Colours of p-values below each bound."""
UNDECIDED = "#e4e6ea"
"""Of the other p-values."""


def lightness(colour: str) -> float:
    """Returns the CIE lightness L*, 0 to 100, of an sRGB colour "#rrggbb"."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance
