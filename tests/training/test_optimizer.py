from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fusion_bench.config import TrainingConfig
from fusion_bench.training.optimizer import WARMUP_FRACTION, make_optimizer, make_schedule

PEAK = 0.02


def rates(schedule, steps):
    """The learning rate of each update."""
    function = make_schedule(TrainingConfig(schedule=schedule, learning_rate=PEAK), steps)
    return np.array([function(step) for step in range(steps)])


@pytest.mark.parametrize("steps", [40, 41, 200])
def test_one_cycle_rises_to_its_peak_for_a_quarter_and_falls(steps):
    learning_rates = rates("one-cycle", steps)
    peak = int(WARMUP_FRACTION * steps)
    assert learning_rates.argmax() == peak
    assert learning_rates.max() == pytest.approx(PEAK)
    assert learning_rates[0] == pytest.approx(PEAK / 10)
    assert (np.diff(learning_rates[: peak + 1]) > 0).all()
    assert (np.diff(learning_rates[peak:]) < 0).all()
    assert learning_rates[-1] < 0.02 * PEAK


def test_cosine_falls_from_its_peak_to_zero():
    steps = 200
    expected = PEAK * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    np.testing.assert_allclose(rates("cosine", steps), expected, atol=1e-8)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_shortest_budgets_have_a_schedule(schedule, steps):
    learning_rates = rates(schedule, steps)
    assert np.isfinite(learning_rates).all()
    assert learning_rates.max() == pytest.approx(PEAK)
    assert learning_rates.min() > 0


def updated(config, params, gradients) -> Any:
    optimizer = make_optimizer(config, 10)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_only_matrices_and_kernels_decay():
    """Without a gradient, AdamW is p ← p - learning_rate · decay · p."""
    config = TrainingConfig(learning_rate=PEAK, schedule="cosine", weight_decay=0.5)
    params = {
        "bias": jnp.ones(3),
        "scalar": jnp.ones(()),
        "matrix": jnp.ones((3, 2)),
        "kernel": jnp.ones((3, 3, 1, 2)),
    }
    zeros = {name: jnp.zeros_like(p) for name, p in params.items()}
    after = updated(config, params, zeros)
    for name, expected in {"bias": 1, "scalar": 1, "matrix": 1 - PEAK / 2, "kernel": 1 - PEAK / 2}.items():
        np.testing.assert_allclose(after[name], np.full(params[name].shape, expected), rtol=1e-6)


def test_the_first_update_is_a_step_of_the_learning_rate_against_the_gradient():
    config = TrainingConfig(learning_rate=PEAK, schedule="cosine", weight_decay=0.0)
    after = updated(config, {"bias": jnp.zeros(2)}, {"bias": jnp.array([3.0, -0.2])})
    np.testing.assert_allclose(after["bias"], [-PEAK, PEAK], rtol=1e-4)
