"""Unimodal teachers: the distance to them in NumPy, and that nothing trains them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.data.batches import gather, to_device
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.remedies.base import Constant, Member, remedies
from fusion_bench.training.step import epoch_order, make_functions
from tests.oracles import masked_mean
from tests.tasks import CONFIG, TWO, call, jit, make_dataset, make_strategy
from tests.training.remedies.steps import cross_entropy, make_modules, make_step, run_losses

DATASET = make_dataset()


@pytest.mark.parametrize("label", ["concat", "cross-attention", "late-mean"])
def test_the_loss_is_the_mean_squared_distance_of_pooled_features(label):
    remedy = remedies.make(Choice("umt", {"weight": 3.0}))
    module, parts = make_modules(label, remedy)
    members = {f"{name}-only": Member(make_strategy(f"{name}-only"), lambda module, split: 0.0, None) for name in TWO}
    remedy.prepare(module, parts, members)
    step = make_step(module, parts)
    got, outputs = run_losses(remedy, step)
    expected = [cross_entropy(outputs.logits)]
    for name in TWO:
        own, teacher = outputs.encoded[name], members[f"{name}-only"].module.encoder_of(name)  # in evaluation mode
        if label == "cross-attention":
            own, target = (masked_mean(*_with_mask(e)) for e in (own, call(teacher.encoder, step.inputs[name])))
        else:
            target = call(teacher, step.inputs[name])
        difference = np.asarray(own, np.float64) - np.asarray(target, np.float64)
        expected.append(3.0 * (difference**2).sum() / difference.size)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def _with_mask(encoded):
    tokens = np.asarray(encoded.tokens)
    return tokens, np.ones(tokens.shape[:2], bool) if encoded.mask is None else np.asarray(encoded.mask)


@pytest.fixture(scope="module")
def trained():
    """Returns the functions, and the state before and after six epochs with teachers that started from another seed."""
    training = TrainingConfig(epochs=6, batch_size=16, learning_rate=0.03, remedy=Choice("umt", {"weight": 50.0}))
    functions = make_functions(StrategySpec("concat"), DATASET.task, CONFIG, training, 130)
    data, seed = to_device(DATASET), jnp.int32(0)
    init = jit(functions.init)
    state = before = init(seed)._replace(parts=init(jnp.int32(1)).parts)
    train, losses = jit(functions.train), []
    for epoch in range(1, 7):
        order = jnp.asarray(epoch_order(DATASET.splits["train"], 0, epoch))
        state, loss = train(state, data, order, seed, jnp.int32(functions.steps_per_epoch))
        losses.append(float(loss))
    return functions, before, state, losses


def test_teachers_are_not_trained(trained):
    _, before, after, losses = trained
    assert losses[-1] < losses[0]
    jax.tree.map(np.testing.assert_array_equal, after.parts.rest, before.parts.rest)
    moved = [
        np.abs(np.asarray(a - b)).max()
        for a, b in zip(*(jax.tree.leaves(s.variables.params["encoders"]) for s in (after, before)), strict=True)
    ]
    assert min(moved) > 0


def test_teachers_are_no_parameters(trained):
    functions, before, _, _ = trained
    assert not jax.tree.leaves(before.parts.params)
    assert jax.tree.leaves(before.parts.rest)
    none = make_functions(StrategySpec("concat"), DATASET.task, CONFIG, TrainingConfig(epochs=2, batch_size=16), 130)
    plain = jax.eval_shape(none.init, jnp.int32(0))
    for of in (lambda state: state.optimizer, lambda state: state.variables):
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(of(state))) for state in (before, plain)]
        assert sizes[0] == sizes[1]
    module = nnx.merge(functions.parts_graph, *before.parts)
    kinds = {type(variable) for _, variable in nnx.to_flat_state(nnx.state(module))}
    assert kinds == {Constant, nnx.BatchStat}


def test_a_large_weight_makes_features_alike(trained):
    functions, before, after, _ = trained

    def distance(state):
        inputs, _ = gather(to_device(DATASET), jnp.asarray(DATASET.splits["train"][:64]))
        strategy, parts = nnx.merge(functions.graph, *state.variables), nnx.merge(functions.parts_graph, *state.parts)
        found = 0.0
        for name in TWO:
            own, target = (call(encoder[name], inputs[name]) for encoder in (strategy.encoders, parts.encoders))
            found += float(jnp.square(own - target).mean())
        return found

    assert distance(after) < 0.5 * distance(before)
