"""Colours that belong to no family; all but ink and grid are visible on light and on dark ground."""

INK = "#22262c"
PALE = "#8b9099"
GRID = "#dfe2e6"
BLUE = "#3f86c0"
ORANGE = "#d9822b"
GREEN = "#3fa283"

Shade = tuple[str, float]
"""A colour and its opacity, 0 to 1."""
LEVELS: dict[str, tuple[float, Shade]] = {
    "p ≥ 0.05: not significant": (1.0, (PALE, 0.18)),
    "p < 0.05": (0.05, (BLUE, 0.45)),
    "p < 0.01": (0.01, (BLUE, 0.75)),
    "p < 0.001": (0.001, (BLUE, 1.0)),
}
"""Upper bound and colour of each class of p-values, the highest first."""
