"""Gradient blending against the paper's formula, and against the faults of public implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.remedies.base import Member, remedies
from fusion_bench.training.remedies.gradient_blending import blending_weights
from fusion_bench.training.step import make_functions
from tests.oracles import head
from tests.tasks import CONFIG, TWO, make_dataset, make_strategy, make_task
from tests.training.remedies.steps import cross_entropy, make_modules, make_step, run_losses


def losses(start_train, start_validation, end_train, end_validation):
    return [[start_train, start_validation], [end_train, end_validation]]


def expected(models, floor):
    """Returns the weights by the paper's definitions, one model after another."""
    ratios = []
    for (train_0, validation_0), (train_n, validation_n) in models:
        gain = validation_0 - validation_n
        overfitting = (validation_n - train_n) - (validation_0 - train_0)
        ratios.append(max(gain, 0) / max(overfitting, floor) ** 2)
    return np.array(ratios) / sum(ratios)


def test_the_weights_of_three_models():
    models = [losses(2.31, 2.30, 0.90, 1.30), losses(2.35, 2.33, 0.60, 1.60), losses(2.29, 2.32, 1.50, 1.70)]
    np.testing.assert_allclose(blending_weights(np.array(models), 0.05), expected(models, 0.05), rtol=1e-10)
    by_hand = np.array([1.0 / 0.41**2, 0.73 / 1.02**2, 0.62 / 0.17**2])
    np.testing.assert_allclose(blending_weights(np.array(models), 0.05), by_hand / by_hand.sum(), rtol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_random_losses(seed):
    models = np.random.default_rng(seed).uniform(0, 3, (4, 2, 2))
    got = blending_weights(models, 0.2)
    np.testing.assert_allclose(got, expected(models, 0.2), rtol=1e-10)
    assert got.sum() == pytest.approx(1)


def test_a_modality_that_got_worse_has_no_weight():
    """The square of a quotient, or its absolute value, would reward it."""
    got = blending_weights(np.array([losses(2.3, 2.3, 1.0, 1.5), losses(2.3, 2.3, 0.1, 4.0)]), 0.05)
    np.testing.assert_array_equal(got, [1.0, 0.0])


def test_overfitting_of_zero_or_less_counts_as_the_floor():
    models = [losses(2.3, 2.3, 1.5, 1.5), losses(2.3, 2.3, 1.5, 1.4), losses(2.3, 2.3, 1.0, 1.1)]
    got = blending_weights(np.array(models), 0.05)
    by_hand = np.array([0.8 / 0.05**2, 0.9 / 0.05**2, 1.2 / 0.1**2])
    np.testing.assert_allclose(got, by_hand / by_hand.sum(), rtol=1e-9)
    assert got.max() < 0.5  # a floor of 1e-4 gives weights of 1e8


def test_equal_weights_if_no_model_generalises():
    got = blending_weights(np.array([losses(2.3, 2.3, 1.0, 2.5), losses(2.3, 2.3, 1.0, 2.3)]), 0.05)
    np.testing.assert_array_equal(got, [0.5, 0.5])


def test_members_are_the_unimodal_runs_and_the_strategys_own():
    remedy = remedies.make(Choice("gradient-blending"))
    spec = StrategySpec("tensor", {"width": 4})
    labels = [member.label for member in remedy.members(spec, make_task(*TWO))]
    assert labels == ["image-only", "text-only", "tensor:width=4"]


def test_each_loss_has_the_weight_of_its_own_model():
    remedy = remedies.make(Choice("gradient-blending", {"floor": 0.1}))
    module, parts = make_modules("concat", remedy)
    values = {
        "text-only": losses(2.3, 2.3, 1.2, 1.6),
        "concat": losses(2.4, 2.3, 0.2, 1.1),
        "image-only": losses(2.2, 2.3, 1.6, 2.0),
    }

    def member(label):
        trained, untrained = make_strategy(label), make_strategy(label)
        of = {id(untrained): values[label][0], id(trained): values[label][1]}
        return Member(trained, lambda module, split: of[id(module)][["train", "validation"].index(split)], untrained)

    remedy.prepare(module, parts, {label: member(label) for label in values})
    weights = expected([values[label] for label in ("concat", "image-only", "text-only")], 0.1)
    np.testing.assert_allclose(parts.weights[...], weights, rtol=1e-6)
    got, outputs = run_losses(remedy, make_step(module, parts))
    alone = [cross_entropy(head(parts.heads[n], np.asarray(outputs.encoded[n], np.float64))) for n in TWO]
    np.testing.assert_allclose(got, weights * [cross_entropy(outputs.logits), *alone], rtol=1e-5)


def test_the_weights_are_no_parameters():
    dataset, training = make_dataset(), TrainingConfig(batch_size=16, remedy=Choice("gradient-blending"))
    functions = make_functions(StrategySpec("concat"), dataset.task, CONFIG, training, 130)
    parts = jax.eval_shape(functions.init, jnp.int32(0)).parts
    assert {path[0] for path, _ in nnx.to_flat_state(parts.params)} == {"heads"}
    assert {path for path, _ in nnx.to_flat_state(parts.rest)} == {("weights",)}
