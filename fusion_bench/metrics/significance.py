"""Significance tests of differences between strategies over seeds, and their power."""

import bisect
import functools
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from fusion_bench.metrics.intervals import CONFIDENCE, Interval, paired_differences, std_on_grid

POWER = 0.8
"""Power of the test at which a true difference counts as detectable."""
Name = TypeVar("Name", bound=Hashable)
_MOST_SEEDS = 1000
_QUANTILES = 1000


def paired_p_value(differences: Sequence[float] | Float[np.ndarray, " seed"], resolution: float = 0.0) -> float:
    """Returns the two-sided p-value of Student's paired t-test.

    NaN for fewer than two differences, and for equal ones if there is no grid; 1 if all are 0. `resolution` is as in
    `std_on_grid`.
    """
    from scipy import stats

    sample = np.asarray(differences, np.float64)
    if len(sample) < 2:
        return math.nan
    std = std_on_grid(sample, resolution)
    if std <= 1e-12 * np.abs(sample).max():
        return 1.0 if sample.mean() == 0 else math.nan
    t = sample.mean() / (std / math.sqrt(len(sample)))
    return float(2 * stats.t.sf(abs(t), len(sample) - 1))


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Returns Holm-corrected p-values: max_{j ≤ i} (m − j + 1) p_(j), at most 1.

    They control the family-wise error rate. NaN stays NaN and is not counted among the m tests. Holm, "A simple
    sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    """
    known = sorted((name for name, p in p_values.items() if not math.isnan(p)), key=lambda name: p_values[name])
    corrected, highest = dict.fromkeys(p_values, math.nan), 0.0
    for rank, name in enumerate(known):
        corrected[name] = highest = max(highest, min(1.0, (len(known) - rank) * p_values[name]))
    return corrected


def pairwise_p_values(
    values: Mapping[str, Mapping[int, float]], resolution: float = 0.0
) -> dict[tuple[str, str], float]:
    """Returns the Holm-corrected `paired_p_value` of every two strategies, from values by seed, over shared seeds."""
    pairs = itertools.combinations(values, 2)
    p_values = holm({(a, b): paired_p_value(paired_differences(values[a], values[b]), resolution) for a, b in pairs})
    return p_values | {(b, a): p for (a, b), p in p_values.items()}


def ranks(values: Mapping[str, Mapping[int, float]], resolution: float = 0.0) -> dict[str, tuple[int, int, int]]:
    """Returns each strategy's rank by its mean, 1 for the highest, with the ends of its 95 % confidence interval.

    The interval runs from 1 plus the number of significantly better strategies to the number of all strategies minus
    that of significantly worse ones. With Holm's correction over all pairs the intervals hold simultaneously (Mogstad,
    Romano, Shaikh and Wilhelm, "Inference for Ranks", Rev. Econ. Stud. 91, 2024). `values` are by seed.
    """
    means = {name: float(np.mean(list(by_seed.values()))) for name, by_seed in values.items() if by_seed}
    p_values = pairwise_p_values({name: values[name] for name in means}, resolution)
    found = {}
    for name, mean in means.items():
        differs = [o for o in means if o != name and p_values[name, o] < 1 - CONFIDENCE]
        better = sum(math.fsum(paired_differences(values[o], values[name])) > 0 for o in differs)
        rank = 1 + sum(other > mean for other in means.values())
        found[name] = (rank, 1 + better, len(means) - (len(differs) - better))
    return found


def detectable_difference(deviation: float, n: int, tests: int = 1) -> float:
    """Returns the smallest true difference that a paired t-test over n seeds detects with 80 % power.

    Args:
      deviation: standard deviation over seeds of the paired difference, which is assumed to be normal.
      n: number of seeds; for fewer than two the result is infinite.
      tests: number of tests in the correction: that of Holm's method for the smallest p-value.
    """
    from scipy.optimize import brentq

    if n < 2:
        return math.inf
    if deviation == 0:
        return 0.0
    # In units of the standard error.
    effect: Any = brentq(lambda effect: _power(effect, n, tests) - POWER, 0.0, 1e4)
    return float(effect) * deviation / math.sqrt(n)


def seeds_to_detect(difference: float, deviation: float, tests: int = 1) -> int | None:
    """Returns the number of seeds at which `detectable_difference` is as small as this; None if above 1,000."""
    if deviation == 0:
        return 2
    effect = difference / deviation
    seeds = range(2, _MOST_SEEDS + 1)  # more of them have more power
    place = bisect.bisect_left(seeds, POWER, key=lambda n: _power(effect * math.sqrt(n), n, tests))
    return seeds[place] if place < len(seeds) else None


def bootstrap_interval(by_image: Float[np.ndarray, " image"], draws: int = 2000) -> Interval:
    """Returns the mean over images with the 95 % interval of the test set's sampling, from a bootstrap.

    Images are resampled, each with its mean over seeds of the accuracy, or of a difference of two accuracies. Pairs of
    image and seed would not be independent, as all seeds see the same images. Half the width of Efron's percentile
    interval.
    """
    # The counts of resampled images are multinomial; images of equal value are counted together.
    values, counts = np.unique(by_image, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(by_image), counts / len(by_image), draws)
    means = drawn @ values / len(by_image)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(by_image.mean()), float((high - low) / 2))


def _power(effect: float, n: int, tests: int) -> float:
    """Power of a two-sided t-test, Bonferroni-corrected for `tests`, at a difference of `effect` standard errors.

    The normal distribution's power, averaged over the distribution of the sample's standard deviation: scipy's
    noncentral t is NaN for large effects.
    """
    from scipy import stats
    from scipy.special import ndtr

    critical = stats.t.isf((1 - CONFIDENCE) / 2 / tests, n - 1)
    needed = critical * _deviations(n)
    return float(np.mean(ndtr(effect - needed) + ndtr(-effect - needed)))


@functools.cache
def _deviations(n: int) -> Float[np.ndarray, " quantile"]:
    """Quantiles of the standard deviation of n values with variance 1."""
    from scipy import stats

    quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.sqrt(stats.chi2.ppf(quantiles, n - 1) / (n - 1))
