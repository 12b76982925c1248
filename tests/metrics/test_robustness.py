"""Metrics of robustness with known values."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fusion_bench.metrics.robustness import MIN_MODELS, effective_robustness, mean_over_severities, retention

RNG = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_mean_over_severities_is_the_area_under_the_curve():
    accuracies = [0.9, 0.8, 0.6, 0.5, 0.2]
    edges = np.linspace(0.5, 5.5, 50_001)
    heights = np.array(accuracies)[np.rint((edges[1:] + edges[:-1]) / 2).astype(int) - 1]
    assert mean_over_severities(accuracies) == pytest.approx((heights * np.diff(edges)).sum() / 5, abs=1e-9)
    assert mean_over_severities(accuracies) == pytest.approx(0.6)


def test_retention_is_relative_to_the_unimodal_model():
    assert retention(0.6, 0.4) == pytest.approx(1.5)
    assert retention(0.3, 0.4) == pytest.approx(0.75)
    assert math.isnan(retention(0.3, 0.0))


def test_models_on_a_line_of_logits_have_no_effective_robustness():
    x = np.linspace(-1, 2, 12)
    found = effective_robustness(sigmoid(x), sigmoid(0.7 * x - 0.4), 10_000)
    assert found is not None
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    assert (found.slope, found.intercept, found.r_squared) == pytest.approx((0.7, -0.4, 1))


def test_effective_robustness_is_the_distance_from_the_line():
    clean, shifted = RNG.uniform(0.4, 0.9, 15), RNG.uniform(0.2, 0.7, 15)
    found = effective_robustness(clean, shifted, 1000)
    x, y = (np.log(a / (1 - a)) for a in (clean, shifted))
    line: Any = stats.linregress(x, y)
    assert found is not None
    np.testing.assert_allclose(found.values, shifted - sigmoid(line.intercept + line.slope * x), atol=1e-10)
    assert found.r_squared == pytest.approx(line.rvalue**2)


def test_it_needs_ten_models_with_different_accuracies():
    accuracies = np.linspace(0.5, 0.8, MIN_MODELS)
    assert MIN_MODELS == 10
    assert effective_robustness(accuracies, accuracies, 100) is not None
    assert effective_robustness(accuracies[1:], accuracies[1:], 100) is None
    assert effective_robustness(np.full(20, 0.5), RNG.random(20), 100) is None


def test_accuracies_of_zero_and_one_have_finite_logits():
    clean = np.array([0.0, *np.linspace(0.3, 0.9, 10), 1.0])
    found = effective_robustness(clean, clean, 50)
    assert found is not None
    assert found.values[0] == pytest.approx(-0.01)  # half an example
    assert np.isfinite(found.values).all()


def test_one_method_more_changes_only_the_stated_fit():
    """Unlike scores that are scaled by the worst and the best of a list of methods."""
    clean, shifted = RNG.uniform(0.4, 0.9, 12), RNG.uniform(0.2, 0.7, 12)
    before = effective_robustness(clean, shifted, 1000)
    after = effective_robustness(np.append(clean, 0.95), np.append(shifted, 0.95), 1000)
    assert before is not None
    assert after is not None
    assert (before.slope, before.intercept) != (after.slope, after.intercept)
    x = np.log(clean / (1 - clean))
    for found in (before, after):
        expected = shifted - sigmoid(found.intercept + found.slope * x)
        np.testing.assert_allclose(found.values[:12], expected, atol=1e-12)
