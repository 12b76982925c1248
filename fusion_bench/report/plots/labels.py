"""Label placement without overlap, and tick positions along an axis."""

import math
from collections.abc import Sequence


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Returns places for labels, moved apart until neighbours are `gap` from each other, within low to high."""
    order = sorted(range(len(places)), key=lambda place: places[place])
    moved = [min(max(places[place], low), high) for place in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    if moved and moved[-1] > high:
        moved[-1] = high
        for index in range(len(moved) - 2, -1, -1):
            moved[index] = min(moved[index], moved[index + 1] - gap)
    return [moved[order.index(place)] for place in range(len(places))]


def plain(value: float) -> str:
    """Returns a number as text for an axis: "50k", "2M", "0.5"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def ticks(low: float, high: float) -> list[float]:
    """Returns round numbers from low to high for a logarithmic axis: 1, 2, 5, 10, 20, …, or closer on a short axis."""
    decades = math.log10(high / low)
    steps = (1, 1.5, 2, 3, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 2 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{step * 10.0**power:.3g}") for power in powers for step in steps]
    found = [value for value in values if low <= value <= high]
    if len(found) > 2:
        return found
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(step * power for step in (1, 2, 5, 10) if (high - low) / (step * power) < 5)
    return [float(f"{step * n:.6g}") for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
