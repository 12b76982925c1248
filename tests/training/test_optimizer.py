from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fusion_bench.config import TrainingConfig
from fusion_bench.training.optimizer import MOMENTUM, MUON_RMS, WARMUP_FRACTION, make_optimizer, make_schedule

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


def updated(config: TrainingConfig, params, gradients) -> Any:
    optimizer = make_optimizer(config, 10)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_only_matrices_and_kernels_decay():
    """Without a gradient, AdamW is p ← p - learning_rate · decay · p."""
    config = TrainingConfig(learning_rate=PEAK, schedule="cosine", weight_decay=0.5)
    params = {"bias": jnp.ones(3), "scalar": jnp.ones(()), "matrix": jnp.ones((3, 2)), "kernel": jnp.ones((3, 3, 1, 2))}
    zeros = {name: jnp.zeros_like(p) for name, p in params.items()}
    after = updated(config, params, zeros)
    for name, expected in {"bias": 1, "scalar": 1, "matrix": 1 - PEAK / 2, "kernel": 1 - PEAK / 2}.items():
        np.testing.assert_allclose(after[name], np.full(params[name].shape, expected), rtol=1e-6)


def test_nesterov_looks_ahead():
    """v ← m v + g, p ← p - rate · (m v + g): the second step of a constant gradient is (1 + m + m²) long."""
    config = TrainingConfig(optimizer="nesterov", learning_rate=PEAK, schedule="cosine", weight_decay=0.0)
    optimizer = make_optimizer(config, 1_000_000)
    params = gradient = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    for length in (1 + MOMENTUM, 1 + MOMENTUM + MOMENTUM**2):
        update, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(np.asarray(update), -PEAK * length * gradient, rtol=1e-5)


def test_muon_makes_the_singular_values_of_a_kernel_equal():
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 4, 8), "linear": (36, 8), "query": (36, 2, 4)}
    gradients = {name: {"kernel": jnp.asarray(rng.normal(size=shape))} for name, shape in shapes.items()}
    zeros = jax.tree.map(jnp.zeros_like, gradients)
    config = TrainingConfig(optimizer="muon", learning_rate=PEAK, schedule="cosine", weight_decay=0.0)
    after = updated(config, zeros, gradients)
    for name in shapes:
        step = -np.asarray(after[name]["kernel"]).reshape(36, 8) / PEAK
        u, _, vt = np.linalg.svd(np.asarray(gradients[name]["kernel"]).reshape(36, 8), full_matrices=False)
        values = np.diag(u.T @ step @ vt.T) / (MUON_RMS * np.sqrt(36))
        assert ((values > 0.65) & (values < 1.25)).all(), name  # five Newton-Schulz steps end about 1
        assert abs(np.sqrt((step**2).mean()) - MUON_RMS) < 0.3 * MUON_RMS


def test_muon_leaves_what_is_no_kernel_to_adam_with_nesterovs_momentum():
    """The first step is (β₁ m̂₂ + (1 - β₁) m̂₁) / √v̂₁, with m̂₂ = β₁ m / (1 - β₁²) of a gradient that is still unseen."""
    params = {"embed": {"embedding": jnp.zeros((3, 2))}, "dense": {"bias": jnp.zeros(2)}}
    gradients = jax.tree.map(lambda p: jnp.full_like(p, 0.3), params)
    config = TrainingConfig(optimizer="muon", learning_rate=PEAK, schedule="cosine", weight_decay=0.0)
    expected = 0.9 * 0.1 / (1 - 0.9**2) + 0.1 / (1 - 0.9)
    for leaf in jax.tree.leaves(updated(config, params, gradients)):
        np.testing.assert_allclose(leaf, np.full(leaf.shape, -PEAK * expected), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "nesterov", "muon"])
def test_biases_have_a_rate_of_their_own(optimizer):
    params = {"dense": {"bias": jnp.zeros(4), "kernel": jnp.zeros((3, 4))}}
    gradients = jax.tree.map(jnp.ones_like, params)
    usual, quicker = (
        updated(TrainingConfig(optimizer=optimizer, bias_rate=rate), params, gradients)["dense"] for rate in (1.0, 4.0)
    )
    np.testing.assert_allclose(quicker["bias"], 4 * usual["bias"], rtol=1e-6)
    np.testing.assert_allclose(quicker["kernel"], usual["kernel"], rtol=1e-6)


def test_the_first_update_is_a_step_of_the_learning_rate_against_the_gradient():
    config = TrainingConfig(learning_rate=PEAK, schedule="cosine", weight_decay=0.0)
    after = updated(config, {"bias": jnp.zeros(2)}, {"bias": jnp.array([3.0, -0.2])})
    np.testing.assert_allclose(after["bias"], [-PEAK, PEAK], rtol=1e-4)
