"""Late fusion: its formulas, and that only scores meet, so that modalities do not interact where scores are added."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fusion_bench.fusion.base import LateFusion
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.late.cosine import CosineHead
from fusion_bench.fusion.late.max import LateMax
from fusion_bench.fusion.late.mean import LateMean
from fusion_bench.fusion.late.mixture import LateMixture
from fusion_bench.fusion.registry import StrategySpec, strategies
from tests import oracles
from tests.tasks import (
    BATCH,
    CLASSES,
    CONFIG,
    THREE,
    TWO,
    call,
    count_params,
    jit,
    make_inputs,
    make_strategy,
    make_task,
)


def mean(module, logits):
    return sum(logits) / len(logits)


def weighted(module, logits):
    weights = oracles.softmax(oracles.array(module.log_weights))
    return sum(weight * z for weight, z in zip(weights, logits, strict=True))


def mixture(module, logits):
    return np.log(sum(oracles.softmax(z) for z in logits) / len(logits))


def maximum(module, logits):
    out = oracles.log_softmax(logits[0])
    for z in logits[1:]:
        out = np.where(oracles.log_softmax(z) > out, oracles.log_softmax(z), out)
    return out


def member_scores(module, name, inputs):
    """A member's scores, from its encoder's feature."""
    member = module.members[name]
    features = np.asarray(call(member.encoder, inputs[name]), np.float64)
    if not isinstance(member.head, CosineHead):
        return oracles.head(member.head, features)
    hidden, kernel = np.maximum(oracles.linear(member.head.hidden, features), 0), oracles.array(member.head.kernel)
    out = np.zeros((BATCH, CLASSES))
    for example, label in np.ndindex(out.shape):
        cosine = hidden[example] @ kernel[:, label]
        out[example, label] = 10 * cosine / np.linalg.norm(hidden[example]) / np.linalg.norm(kernel[:, label])
    return out


def quality(module, logits):
    """Weighted by a tenth of the energy."""
    return sum(np.log(np.exp(z).sum(1, keepdims=True)) / 10 * z for z in logits)


def trusted(module, logits):
    """log α of Dempster's combination, product of masses by product of masses."""
    classes = logits[0].shape[1]

    def masses(z):
        """Belief in each class, and last the mass of no class."""
        evidence = np.log1p(np.exp(z))
        return np.append(evidence, classes) / (evidence.sum() + classes)

    out = np.zeros_like(logits[0])
    for example in range(len(out)):
        joint = masses(logits[0][example])
        for z in logits[1:]:
            other, found = masses(z[example]), np.zeros(classes + 1)
            for i, j in np.ndindex(classes + 1, classes + 1):
                if i == j or classes in (i, j):  # the same class, or one of both says nothing
                    found[min(i, j)] += joint[i] * other[j]
            joint = found / found.sum()
        out[example] = np.log(joint[:-1] * classes / joint[-1] + 1)
    return out


# the formula, and the parameters of the join for M modalities
CASES = {
    "late-mean": (mean, lambda m: 0),
    "late-weighted": (weighted, lambda m: m),
    "late-mixture": (mixture, lambda m: 0),
    "late-max": (maximum, lambda m: 0),
    "qmf": (quality, lambda m: 0),
    "tmc": (trusted, lambda m: 0),
    "late-cosine": (lambda module, logits: sum(logits), lambda m: -m * CLASSES),
}


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("label", CASES)
def test_scores_are_joined_by_the_formula(label, names):
    module, inputs = make_strategy(label, names), make_inputs(make_task(*names))
    formula, _ = CASES[label]
    outputs = call(module, inputs)
    scores = [member_scores(module, name, inputs) for name in names]
    for name, expected in zip(names, scores, strict=True):
        np.testing.assert_allclose(module.unimodal_logits(outputs)[name], expected, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, formula(module, scores), atol=1e-5)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("label", [*CASES, "late-posthoc", "late-stacking"])
def test_the_members_are_the_unimodal_models_and_the_join_costs_what_it_says(label, names):
    _, parameters = CASES.get(label, (None, lambda m: 0))
    total = count_params(make_strategy(label, names)) - sum(
        count_params(make_strategy(f"{name}-only", names)) for name in names
    )
    assert total == parameters(len(names))


def test_every_joint_late_fusion_is_tested():
    joint = {name for name, r in strategies().items() if issubclass(r.make, LateFusion) and not r.is_posthoc}
    assert joint == {*CASES, "pdf"}  # which has a file of its own, as it reads features too


def interaction(label):
    """How far class-centred scores are from a sum of an image's and a text's, over all pairs of a batch."""
    module, inputs = make_strategy(label, TWO), make_inputs(make_task(*TWO))
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        if path[-2:] == ("scores", "bias"):  # or a maximum is decided by it alone
            variable.set_value(jnp.zeros_like(variable[...]))
    rows, columns = (jnp.asarray(i.ravel()) for i in np.indices((BATCH, BATCH)))
    pairs = {
        name: jax.tree.map(lambda x, i=i: x[i], inputs[name]) for name, i in zip(TWO, (rows, columns), strict=True)
    }
    scores = np.asarray(call(module, pairs).logits, np.float64).reshape(BATCH, BATCH, CLASSES)
    scores -= scores.mean(-1, keepdims=True)
    for axis in (0, 1):
        scores = scores - scores.mean(axis, keepdims=True)
    return np.abs(scores).max()


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_late_posthoc_is_a_product_of_calibrated_experts_over_the_prior(names):
    module, inputs = make_strategy("late-posthoc", names), make_inputs(make_task(*names))
    rng = np.random.default_rng(1)
    temperatures = dict(zip(names, rng.uniform(0.5, 2, len(names)), strict=True))
    prior = rng.dirichlet(np.ones(CLASSES))
    for name, temperature in temperatures.items():
        module.temperatures[name].set_value(jnp.float32(temperature))
    module.log_prior.set_value(jnp.log(jnp.float32(prior)))

    logits = {name: rng.normal(size=(BATCH, CLASSES)) for name in names}
    expected = np.zeros((BATCH, CLASSES))
    for example, label in np.ndindex(expected.shape):
        for name in names:
            p = oracles.softmax(logits[name][example] / temperatures[name])[label]
            expected[example, label] += np.log(p)
        expected[example, label] -= (len(names) - 1) * np.log(prior[label])
    np.testing.assert_allclose(module.fuse(jax.tree.map(jnp.float32, logits)), expected, atol=1e-5)

    outputs = module(inputs)
    np.testing.assert_allclose(outputs.logits, module.fuse(module.unimodal_logits(outputs)), atol=1e-6)
    for name in names:
        np.testing.assert_allclose(
            module.unimodal_logits(outputs)[name], member_scores(module, name, inputs), atol=1e-5
        )


def test_late_posthoc_starts_from_a_uniform_prior_and_no_temperature():
    task = make_task(*TWO)
    spec = StrategySpec("late-posthoc")
    module: Any = spec.build(Blueprint(task, CONFIG, jax.random.key(0)))
    np.testing.assert_allclose(module.log_prior[...], np.full(CLASSES, -np.log(CLASSES)), rtol=1e-6)
    assert all(float(temperature[...]) == 1 for temperature in module.temperatures.values())


def test_late_posthoc_fits_each_temperature_and_takes_the_prior():
    module = make_strategy("late-posthoc")
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(4000, CLASSES)) for name in TWO}
    labels = rng.integers(0, CLASSES, 4000)
    logits["image"][np.arange(4000), labels] += 2
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    module.fit(logits, labels, prior)
    # scores drawn as N(2 · onehot, 1) are the log-likelihood ratios if doubled
    assert float(module.temperatures["image"][...]) == pytest.approx(0.5, rel=0.1)
    assert float(module.temperatures["text"][...]) > 10
    np.testing.assert_allclose(module.log_prior[...], np.log(prior), rtol=1e-6)
    assert {module.log_prior[...].dtype, module.temperatures["text"][...].dtype} == {jnp.dtype("float32")}


def test_stacking_is_the_logistic_regression_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    module = make_strategy("late-stacking", THREE)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 400)
    logits = {name: rng.normal(size=(400, CLASSES)) + 2 * np.eye(CLASSES)[labels] for name in THREE}
    module.fit(logits, labels, np.full(CLASSES, 1 / CLASSES))
    scores = np.concatenate([oracles.log_softmax(z) for z in logits.values()], axis=1)
    expected = LogisticRegression(max_iter=1000).fit(scores, labels).decision_function(scores)
    joined = module.fuse({name: jnp.float32(z) for name, z in logits.items()})
    np.testing.assert_allclose(joined, expected, atol=1e-3)


@pytest.mark.parametrize("present", [[2], [1, 3], [0, 1, 3]], ids=len)
def test_stacking_never_chooses_a_class_that_validation_lacks(present):
    module = make_strategy("late-stacking", TWO)
    rng = np.random.default_rng(0)
    labels = rng.choice(present, 200)
    logits = {name: rng.normal(size=(200, CLASSES)) + 2 * np.eye(CLASSES)[labels] for name in TWO}
    module.fit(logits, labels, np.full(CLASSES, 1 / CLASSES))
    chosen = np.asarray(module.fuse({name: jnp.float32(z) for name, z in logits.items()})).argmax(1)
    assert set(chosen) <= set(present)
    assert (chosen == labels).mean() > 0.8


def lowest_cross_entropy(make_joint, steps=1500):
    """Fits scores of ten classes for each y and each k to the target (y + k) mod 10; the best of three starts."""
    numbers = jnp.arange(10)
    target = jax.nn.one_hot((numbers[:, None] + numbers).ravel() % 10, 10)

    def loss(scores):
        tables = jnp.broadcast_arrays(scores[0][:, None], scores[1][None])
        joint = make_joint(dict(zip(TWO, (table.reshape(100, 10) for table in tables), strict=True)))
        return optax.softmax_cross_entropy(joint, target).mean()

    def fit(seed):
        optimizer = optax.adam(0.05)
        scores = 2 * jax.random.normal(jax.random.key(seed), (2, 10, 10))

        def step(carry, _):
            scores, state = carry
            value, gradient = jax.value_and_grad(loss)(scores)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(scores, updates), state), value

        return jax.lax.scan(step, (scores, optimizer.init(scores)), length=steps)[1].min()

    return float(min(map(jit(fit), range(3))))


@pytest.mark.parametrize(("make", "lowest"), [(LateMean, np.log(10)), (LateMixture, np.log(10)), (LateMax, 2.15)])
def test_how_well_a_join_of_scores_can_learn_a_shift_of_the_class(make, lowest):
    found = lowest_cross_entropy(lambda logits: make.fuse(None, logits))
    if make is LateMax:
        assert found < lowest
    else:
        assert found == pytest.approx(lowest, abs=1e-3)


@pytest.mark.parametrize("label", ["late-mean", "late-weighted", "late-posthoc", "late-stacking"])
def test_modalities_do_not_interact_where_log_scores_are_added(label):
    assert interaction(label) < 1e-5


@pytest.mark.parametrize("label", ["late-max", "late-mixture", "tensor", "concat"])
def test_modalities_interact_elsewhere(label):
    assert interaction(label) > 1e-3
