"""Numbers as text, in tables, notes and pictures."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

MISSING = "–"
INTERVAL = "95 % interval over seeds (Student's t), given the split and the captions"


def percent(mean: float, half_width: float = math.nan, form: str = ".2f") -> str:
    """Returns a fraction in percent with its interval, if there is one: "78.31 ± 0.42"."""
    if math.isnan(mean):
        return MISSING
    text = format(100 * mean, form).replace("-", "−")
    return text if math.isnan(half_width) else f"{text} ± {100 * half_width:.2f}"


def points(mean: float, half_width: float = math.nan) -> str:
    """Returns a difference of fractions in percentage points, with its sign: "+1.20 ± 0.42"."""
    return percent(mean, half_width, "+.2f")


def count(value: float) -> str:
    """Returns a number with three significant digits, with separators: 12,300 or 0.0123."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def optional(value: Any, form: Callable[[Any], str] | str = count) -> str:
    """Returns a number in a format, or a dash for none."""
    if pd.isna(value):
        return MISSING
    return format(value, form) if isinstance(form, str) else form(value)
