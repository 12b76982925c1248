"""Confidence intervals of means over seeds, and standard errors of accuracies on a finite test set."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and half the width of its interval: mean ± half_width."""

    mean: float
    half_width: float


def t_interval(values: Sequence[float] | np.ndarray, resolution: float = 0.0) -> Interval:
    """Returns the mean of n values with its 95 % interval, mean ± t(0.975, n − 1) · s / √n.

    t is the quantile of Student's distribution, s the sample's `std_on_grid`; values are taken as
    independent and near normal. The half width is NaN for one value; both are NaN for none.
    """
    sample = np.asarray(values, np.float64)
    n = len(sample)
    if n < 2:
        return Interval(float(sample[0]) if n else math.nan, math.nan)
    return Interval(float(sample.mean()), t_quantile(n) * std_on_grid(sample, resolution) / math.sqrt(n))


def t_quantile(n: int) -> float:
    """Returns half the width of the 95 % interval of a mean of n values, in standard errors; 4.3 for n = 3."""
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))


def paired_interval(values: Mapping[int, float], others: Mapping[int, float], resolution: float = 0.0) -> Interval:
    """Returns `t_interval` of the differences value − other over the seeds that both have.

    Pairing removes the variation that two runs of one seed share: batch order, augmentation, initialisation.
    """
    return t_interval(paired_differences(values, others), resolution)


def paired_differences(values: Mapping[int, float], others: Mapping[int, float]) -> list[float]:
    """Returns value − other for each seed that both have."""
    return [values[seed] - others[seed] for seed in sorted(values.keys() & others.keys())]


def std_on_grid(differences: Sequence[float] | np.ndarray, resolution: float) -> float:
    """Returns the standard deviation of two or more differences between numbers that lie on a grid.

    `resolution` is the distance between two points of the grid, 1 / n for accuracies on n examples; 0 for no grid. A
    few differences may be equal by chance, so the result is at least that of two roundings, resolution / √6.
    """
    return max(float(np.std(differences, ddof=1)), resolution / math.sqrt(6))


def wilson_interval(accuracy: float, n: int) -> tuple[float, float]:
    """Returns the ends of the 95 % interval of an accuracy p that is measured on n test examples.

    Wilson's score interval, (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n). Unlike p ± z √(p (1 − p)/n) it has
    a width at p = 0 and 1.

    References:
      Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = accuracy + z**2 / (2 * n)
    reach = z * math.sqrt(accuracy * (1 - accuracy) / n + (z / (2 * n)) ** 2)
    low, high = (end / (1 + z**2 / n) for end in (centre - reach, centre + reach))
    return (low if accuracy > 0 else 0.0), (high if accuracy < 1 else 1.0)  # no rounding beyond the ends
