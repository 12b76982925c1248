"""Unimodal losses against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.remedies.base import remedies
from fusion_bench.training.step import make_functions
from tests.oracles import head, masked_mean
from tests.tasks import CONFIG, TWO, jit, make_dataset
from tests.training.remedies.steps import cross_entropy, make_modules, make_step, run_losses

DATASET = make_dataset()


@pytest.mark.parametrize("label", ["concat", "cross-attention", "late-weighted"])
def test_the_losses_are_the_joint_one_and_that_of_each_modality(label):
    remedy = remedies.make(Choice("unimodal-losses", {"weight": 0.3}))
    module, parts = make_modules(label, remedy)
    got, outputs = run_losses(remedy, make_step(module, parts))
    expected = [cross_entropy(outputs.logits)]
    for name in TWO:
        encoded = outputs.encoded[name]
        if label == "cross-attention":
            encoded = masked_mean(*map(np.asarray, encoded))
        features = np.asarray(encoded, np.float64)
        own = module.members[name].head if label == "late-weighted" else parts.heads[name]
        expected.append(0.3 * cross_entropy(head(own, features)))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert (label == "late-weighted") == (not parts.heads)  # which has heads of its own


def test_they_train_their_heads_and_the_encoders_and_nothing_else():
    remedy = remedies.make(Choice("unimodal-losses"))
    module, parts = make_modules("concat", remedy)
    step = make_step(module, parts)
    graphs, params, rest = zip(*(nnx.split(each, nnx.Param, ...) for each in (module, parts)), strict=True)

    @functools.partial(jit, static_argnums=1)
    @jax.grad
    def slope(params, name):
        merged = [nnx.merge(graph, *state, copy=True) for graph, *state in zip(graphs, params, rest, strict=True)]
        losses, _ = remedy.losses(step._replace(module=merged[0], parts=merged[1]))
        return losses[1 + TWO.index(name)]

    for name, other in (TWO, TWO[::-1]):
        of_strategy, of_parts = slope(params, name)
        for tree, is_trained in (
            (of_parts["heads"][name], True),
            (of_strategy["encoders"][name], True),
            (of_parts["heads"][other], False),
            (of_strategy["encoders"][other], False),
            (of_strategy["head"], False),
        ):
            assert any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(tree)) == is_trained


def init(label, remedy="none"):
    config = TrainingConfig(epochs=1, batch_size=16, remedy=Choice(remedy))
    return make_functions(StrategySpec(label), DATASET.task, CONFIG, config, 130).init(jnp.int32(3))


def test_the_heads_start_as_those_of_the_baselines_and_are_no_part_of_the_model():
    plain, treated = init("concat"), init("concat", "unimodal-losses")
    jax.tree.map(np.testing.assert_array_equal, treated.variables.params, plain.variables.params)
    for name in TWO:
        baseline = init(f"{name}-only").variables.params
        jax.tree.map(np.testing.assert_array_equal, treated.parts.params["heads"][name], baseline["head"])
