"""Modality dropout: how often, which modality, and what is left."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.data.batches import leave_out, to_device
from fusion_bench.data.dataset import PAD
from fusion_bench.fusion.base import Outputs
from fusion_bench.fusion.registry import StrategySpec, strategies
from fusion_bench.training.remedies.base import remedies
from fusion_bench.training.remedies.modality_dropout import draw_missing
from fusion_bench.training.step import make_functions, predict
from tests.tasks import BATCH, CLASSES, CONFIG, SPECS, THREE, TWO, jit, make_batch, make_dataset, make_inputs, make_task
from tests.training.remedies.steps import make_step

COUNT = 20_000


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_the_rate_and_the_modality_that_is_lost(names, rate):
    missing = draw_missing(names, COUNT, rate, jax.random.key(0))
    lost = np.stack([np.asarray(missing[name]) for name in names])
    assert lost.sum(0).max() <= 1  # so one is always left
    deviation = np.sqrt(rate * (1 - rate) / COUNT)
    assert abs(lost.any(0).mean() - rate) <= 4 * deviation
    share = rate / len(names)
    assert np.abs(lost.mean(1) - share).max() <= 4 * np.sqrt(share * (1 - share) / COUNT)


def test_examples_and_steps_are_independent():
    first, second = (np.asarray(draw_missing(TWO, COUNT, 0.5, jax.random.key(key))["image"]) for key in (0, 1))
    for one, other in ((first, second), (first[:-1], first[1:])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(COUNT)


@pytest.mark.parametrize("name", SPECS)
def test_what_is_missing_is_exactly_zero_and_all_else_as_it_was(name):
    batch = make_batch(SPECS[name])
    missing = np.arange(BATCH) % 3 == 0
    left = leave_out(batch, jnp.asarray(missing))
    assert np.asarray(batch.values[missing]).any()
    np.testing.assert_array_equal(left.values[missing], PAD if SPECS[name].kind == "tokens" else 0)
    np.testing.assert_array_equal(left.values[~missing], batch.values[~missing])
    assert (left.mask is None) == (batch.mask is None) == (SPECS[name].kind in ("grid", "vector"))
    if left.mask is not None and batch.mask is not None:
        assert not np.asarray(left.mask[missing]).any()
        np.testing.assert_array_equal(left.mask[~missing], batch.mask[~missing])


class Recorder:
    """A strategy that keeps its inputs."""

    inputs: Any = None

    def train(self):
        pass

    def __call__(self, inputs, *, rngs):
        self.inputs = inputs
        return Outputs(jnp.zeros((BATCH, CLASSES)))

    def loss(self, outputs, labels, *, label_smoothing, epoch):
        return outputs.logits.sum()


def test_a_step_sees_examples_without_one_modality():
    module = Recorder()
    inputs = make_inputs(make_task(*THREE))
    remedy = remedies.make(Choice("modality-dropout", {"rate": 0.7}))
    for key in range(5):
        remedy.losses(make_step(module, inputs=inputs, key=key))
        missing = draw_missing(THREE, BATCH, 0.7, jax.random.key(key))
        assert any(np.asarray(m).any() for m in missing.values())
        for name in THREE:
            expected = leave_out(inputs[name], missing[name])
            np.testing.assert_array_equal(module.inputs[name].values, expected.values)


def test_it_applies_to_every_fusion_that_is_trained():
    remedy = remedies.make(Choice("modality-dropout"))
    for name in strategies(TWO):
        spec = StrategySpec(name)
        is_fusion = spec.registration.modality is None and not spec.registration.is_posthoc
        assert (remedy.skip(spec, make_task(*TWO)) is None) == is_fusion


def test_early_fusion_is_trained_without_a_modality_and_tested_with_all():
    dataset = make_dataset()
    data, order, seed = to_device(dataset), jnp.asarray(dataset.splits["train"]), jnp.int32(0)

    def functions(remedy):
        training = TrainingConfig(epochs=1, batch_size=16, remedy=remedy)
        return make_functions(StrategySpec("early-token"), dataset.task, CONFIG, training, 130)

    plain, treated = functions(Choice("none")), functions(Choice("modality-dropout", {"rate": 1.0}))
    before = jit(plain.init)(seed)
    losses = [float(jit(each.train)(before, data, order, seed, jnp.int32(1))[1]) for each in (plain, treated)]
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]
    test = jnp.asarray(dataset.splits["test"][:8])
    ours, theirs = (predict(each.graph, before.variables, data, test) for each in (treated, plain))
    np.testing.assert_array_equal(ours, theirs)
