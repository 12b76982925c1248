"""MMPareto against a search over all weights, and against the faults of public implementations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.data.batches import gather, to_device
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.optimizer import make_optimizer
from fusion_bench.training.remedies.base import Step, remedies
from fusion_bench.training.step import epoch_order, make_functions, split_module
from tests.tasks import CONFIG, TWO, jit, make_dataset

SHAPES = {
    "encoders": {"image": {"kernel": (9, 4), "scale": (3,)}, "text": {"kernel": (5, 4)}},
    "members": {"audio": {"encoder": (7,), "head": (4,)}},
    "head": {"kernel": (5, 4)},
}
"""Parameters of the encoders of three modalities, a head of one of them, and a joint head."""


def draw(seed, shapes: Any = None) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        SHAPES if shapes is None else shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def modality_of(path):
    return path[1] if path[0] in ("encoders", "members") else None


def combine(joint, alone):
    """Returns the combined gradient of the strategy's parameters."""
    gradients = [(tree, {}) for tree in (joint, alone)]
    return remedies.make(Choice("mmpareto")).combine(gradients, modality_of)[0]


def expected(joint, alone):
    """Returns h of one encoder from vectors, with the weights from a search over all of them."""
    joint, alone = np.asarray(joint, np.float64), np.asarray(alone, np.float64)
    a = 0.5
    if joint @ alone <= 0:
        grid = np.linspace(0, 1, 200_001)
        norms = grid**2 * (joint @ joint) + 2 * grid * (1 - grid) * (joint @ alone) + (1 - grid) ** 2 * (alone @ alone)
        a = grid[norms.argmin()]
    h = 2 * a * joint + 2 * (1 - a) * alone
    wanted = np.linalg.norm(joint + alone)
    return h * max(1, wanted / np.linalg.norm(h)), a


def vector(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def encoder(tree, name):
    return {"audio": tree["members"]["audio"]["encoder"]} if name == "audio" else tree["encoders"][name]


@pytest.mark.parametrize("seed", range(4))
def test_each_encoder_has_its_own_combination(seed):
    """The image's gradients are made to agree, the text's to be in conflict; those of audio are as they are drawn."""
    joint, alone = draw(seed), draw(10 + seed)
    alone["encoders"]["image"] = jax.tree.map(lambda g, m: g + 2 * m, *(t["encoders"]["image"] for t in (alone, joint)))
    alone["encoders"]["text"] = jax.tree.map(lambda g, m: g - 2 * m, *(t["encoders"]["text"] for t in (alone, joint)))
    got = combine(joint, alone)
    for name in ("image", "text", "audio"):
        m, u = (vector(encoder(tree, name)) for tree in (joint, alone))
        h, a = expected(m, u)
        np.testing.assert_allclose(vector(encoder(got, name)), h, rtol=1e-4, atol=1e-4)
        if name == "image":
            np.testing.assert_allclose(h, m + u)
        if name == "text":
            assert 0 < a < 1
            assert abs(a - 0.5) > 0.05  # neither equal weights nor none
            np.testing.assert_allclose(np.linalg.norm(vector(encoder(got, name))), np.linalg.norm(m + u), rtol=1e-4)
            assert min(h @ m, h @ u) > 0  # neither loss grows


def test_all_other_parameters_have_the_plain_sum():
    joint, alone = draw(0), draw(1)
    got = combine(joint, alone)
    for of in (lambda tree: tree["head"]["kernel"], lambda tree: tree["members"]["audio"]["head"]):
        np.testing.assert_array_equal(of(got), of(joint) + of(alone))


@pytest.mark.parametrize(
    ("joint", "alone", "h"),
    [
        ([1.0, 2.0], [1.0, 2.0], [2.0, 4.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        ([1.0, 0.0], [0.0, 0.0], [0.0, 0.0]),  # the shortest combination is zero
        ([1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]),
        ([3.0, 0.0], [-1.0, 0.0], [0.0, 0.0]),
        ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]),
        ([1.0, 0.0], [-1.0, 1.0], [1 / np.sqrt(5), 2 / np.sqrt(5)]),  # weights 3/5 and 2/5, norm ‖g_m + g_u‖ = 1
    ],
    ids=["equal", "both zero", "one zero", "opposite", "opposite of another length", "orthogonal", "conflict"],
)
def test_gradients_at_the_edges(joint, alone, h):
    trees = [{"encoders": {"image": {"kernel": jnp.array(g)}}} for g in (joint, alone)]
    np.testing.assert_allclose(combine(*trees)["encoders"]["image"]["kernel"], h, atol=1e-5)


def test_the_gradients_of_a_training_differ_and_are_at_times_in_conflict():
    """A public implementation reads both gradients after both backward passes, so that their cosine is always 1."""
    dataset, remedy = make_dataset(), remedies.make(Choice("mmpareto"))
    training = TrainingConfig(epochs=8, batch_size=16, learning_rate=0.03, remedy=Choice("mmpareto"))
    functions = make_functions(StrategySpec("concat"), dataset.task, CONFIG, training, 130)
    data, seed = to_device(dataset), jnp.int32(0)
    module, parts = (nnx.merge(*graph_and_rest) for graph_and_rest in _graphs(functions))
    train_graphs = [split_module(each, training=True)[0] for each in (module, parts)]

    @jit
    def cosines(state, batch):
        inputs, labels = gather(data, batch)

        def losses(params):
            module, parts = (
                nnx.merge(graph, own, variables.rest, copy=True)
                for graph, own, variables in zip(train_graphs, params, (state.variables, state.parts), strict=True)
            )
            step = Step(module, parts, inputs, labels, 0.1, nnx.Rngs(0), jax.random.key(0), jnp.int32(0))
            return jnp.stack(remedy.losses(step)[0])

        joint, alone = (
            jax.tree.map(lambda g, row=row: g[row], jax.jacrev(losses)((state.variables.params, state.parts.params))[0])
            for row in (0, 1)
        )
        found = []
        for name in TWO:
            m, u = (
                jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree["encoders"][name])])
                for tree in (joint, alone)
            )
            found.append(m @ u / (jnp.linalg.norm(m) * jnp.linalg.norm(u)))
        return jnp.stack(found)

    state, train, found = jit(functions.init)(seed), jit(functions.train), []
    for epoch in range(training.epochs):
        order = jnp.asarray(epoch_order(dataset.splits["train"], 0, epoch + 1))
        found += [cosines(state, order[first : first + 16]) for first in range(0, 128, 16)]
        state, _ = train(state, data, order, seed, jnp.int32(functions.steps_per_epoch))
    found = np.array(found)
    assert found.max() < 0.999
    assert (found < 0).any()


def _graphs(functions):
    state = jax.eval_shape(functions.init, jnp.int32(0))
    return (functions.graph, *state.variables), (functions.parts_graph, *state.parts)


ADAMW, NESTEROV = TrainingConfig(weight_decay=0.0), TrainingConfig(optimizer="nesterov", weight_decay=0.0)


@pytest.mark.parametrize("training", [ADAMW, NESTEROV], ids=["adamw", "nesterov"])
def test_gamma_enlarges_the_steps_of_encoders_with_every_optimizer(training):
    def updates(remedy, scale=1.0) -> Any:
        optimizer = remedies.make(remedy).wrap(make_optimizer(training, 100), modality_of)
        params, update = draw(0), None
        state = optimizer.init(params)
        for step in range(3):
            gradient = jax.tree.map(lambda g: scale * g, draw(step + 1))
            update, state = optimizer.update(gradient, state, params)
        return update

    plain, treated = updates(Choice("none")), updates(Choice("mmpareto", {"gamma": 2.0}))
    for name in ("image", "text", "audio"):
        np.testing.assert_allclose(vector(encoder(treated, name)), 2 * vector(encoder(plain, name)), rtol=1e-6)
    np.testing.assert_array_equal(treated["head"]["kernel"], plain["head"]["kernel"])
    np.testing.assert_array_equal(treated["members"]["audio"]["head"], plain["members"]["audio"]["head"])
    # As a factor of gradients it would be no remedy: Adam divides by their scale.
    expected = 1.0 if training is ADAMW else 2.0
    np.testing.assert_allclose(vector(updates(Choice("none"), 2.0)), expected * vector(plain), rtol=1e-4)
