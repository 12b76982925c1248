import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.metrics.intervals import binomial_standard_error, paired_interval, t_interval

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


def test_binomial_standard_error_by_hand():
    assert binomial_standard_error(0.5, 2500) == pytest.approx(0.01)
    assert binomial_standard_error(0.1, 900) == pytest.approx(0.01)
    assert binomial_standard_error(1.0, 100) == 0
