import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fusion_bench.metrics.intervals import paired_interval, t_interval, wilson_interval

# 97.5 % quantiles of Student's t, from a printed table, by degrees of freedom
T_TABLE = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262}


@pytest.mark.parametrize(("freedom", "quantile"), T_TABLE.items())
def test_the_half_width_is_that_of_the_printed_quantiles(freedom, quantile):
    values = np.arange(freedom + 1.0)
    n = freedom + 1
    deviation = math.sqrt(sum((value - freedom / 2) ** 2 for value in values) / freedom)
    mean, half_width = t_interval(values)
    assert mean == freedom / 2
    assert half_width == pytest.approx(quantile * deviation / math.sqrt(n), rel=2e-4)


def test_three_values_by_hand():
    # mean 0.72, s = 0.02, t = 4.3027: 4.3027 * 0.02 / sqrt(3)
    assert t_interval([0.70, 0.72, 0.74]) == pytest.approx((0.72, 0.049683), abs=1e-6)


def test_one_value_has_no_interval_and_none_no_mean():
    mean, half_width = t_interval([0.5])
    assert mean == 0.5
    assert math.isnan(half_width)
    assert all(math.isnan(part) for part in t_interval([]))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(size=(4000, 3))
    covered = [abs(interval.mean) <= interval.half_width for interval in map(t_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4000))


def test_pairing_removes_what_seeds_share():
    values, others = {0: 0.9, 1: 0.5, 2: 0.1}, {0: 0.8, 1: 0.4, 2: 0.0}
    assert paired_interval(values, others) == pytest.approx((0.1, 0), abs=1e-12)


def test_only_seeds_that_both_have_are_compared():
    assert paired_interval({0: 0.5, 1: 0.7, 3: 0.0}, {1: 0.6, 0: 0.3, 2: 0.9}).mean == pytest.approx(0.15)
    assert math.isnan(paired_interval({0: 0.5}, {1: 0.5}).mean)


@given(st.dictionaries(st.integers(0, 9), st.floats(0, 1), min_size=2))
def test_swapping_the_sides_only_changes_the_sign(values):
    others = dict.fromkeys(values, 0.5)
    there, back = paired_interval(values, others), paired_interval(others, values)
    assert there.mean == pytest.approx(-back.mean, abs=1e-12)
    assert there.half_width == pytest.approx(back.half_width, abs=1e-12)


@pytest.mark.parametrize("right", [0, 1, 50, 100, 199, 200])
def test_wilsons_interval_is_scipys(right):
    oracle = stats.binomtest(right, 200).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right / 200, 200) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_wilsons_interval_by_hand():
    z = 1.959964  # at 0 and 1 an end is z² / (n + z²) away
    assert wilson_interval(1.0, 200) == (pytest.approx(200 / (200 + z**2), rel=1e-6), 1.0)
    assert wilson_interval(0.0, 200) == (0.0, pytest.approx(z**2 / (200 + z**2), rel=1e-6))
    low, high = wilson_interval(0.5, 10_000)  # near p ± z √(p (1 − p) / n)
    assert (high - low) / 2 == pytest.approx(z * 0.005, rel=1e-3)
