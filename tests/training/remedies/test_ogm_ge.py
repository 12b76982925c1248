"""OGM-GE against NumPy in float64, and against the faults of public implementations."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench import fusion
from fusion_bench.config import Choice, TrainingConfig
from fusion_bench.data.batches import gather, to_device
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import Registration, StrategySpec, strategies
from fusion_bench.training.optimizer import make_optimizer
from fusion_bench.training.remedies.base import remedies
from fusion_bench.training.remedies.ogm_ge import modulation_factors
from fusion_bench.training.step import make_functions
from tests.oracles import softmax
from tests.tasks import CONFIG, THREE, TWO, jit, make_dataset, registered

DATASET = make_dataset()


def expected_factors(logits, labels, alpha):
    """The paper's equations 8 to 10, example by example; for three modalities the mean of pairwise ratios."""
    scores = {}
    for modality, z in logits.items():
        probabilities = softmax(np.asarray(z, np.float64))
        scores[modality] = sum(probabilities[i, label] for i, label in enumerate(labels))
    factors = {}
    for modality, score in scores.items():
        ratios = [score / other for name, other in scores.items() if name != modality]
        ratio = sum(ratios) / len(ratios)
        factors[modality] = 1 - np.tanh(alpha * ratio) if ratio > 1 else 1.0
    return factors


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("alpha", [0.1, 0.8])
def test_factors_are_those_of_the_paper(names, alpha):
    rng = np.random.default_rng(len(names))
    labels = rng.integers(0, 5, 32)
    logits = {
        name: rng.normal(size=(32, 5)) + i * np.eye(5)[labels] for i, name in enumerate(names)
    }  # the last modality knows most
    got = modulation_factors(
        {name: jnp.asarray(z, jnp.float32) for name, z in logits.items()}, jnp.asarray(labels), alpha
    )
    expected = expected_factors(logits, labels, alpha)
    assert expected[names[-1]] < 1 == expected[names[0]]
    for name in names:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)


def logits_of(probabilities, batch=4):
    """Returns class scores of two classes in which each modality gives this probability to the label, 0."""
    return {name: jnp.log(jnp.tile(jnp.array([p, 1 - p]), (batch, 1))) for name, p in probabilities.items()}


@pytest.mark.parametrize(
    ("probabilities", "ratios"),
    [
        ({"image": 0.8, "text": 0.4}, {"image": 2, "text": 0.5}),
        ({"image": 0.5, "text": 0.5}, {"image": 1, "text": 1}),
        ({"audio": 0.9, "image": 0.3, "text": 0.6}, {"audio": 2.25, "image": 5 / 12, "text": 4 / 3}),
    ],
    ids=["two", "equal", "three"],
)
def test_every_modality_has_its_mean_of_ratios(probabilities, ratios):
    """Not the last one alone, and the dominant ones are slowed, not the others."""
    got = modulation_factors(logits_of(probabilities), jnp.zeros(4, jnp.int32), 0.3)
    for name, ratio in ratios.items():
        expected = 1 - np.tanh(0.3 * ratio) if ratio > 1 else 1
        assert float(got[name]) == pytest.approx(expected, abs=1e-6)


PARAMS = {
    "encoders": {"image": {"kernel": (60, 50), "scale": (1,)}, "text": {"kernel": (40, 30)}},
    "head": {"kernel": (5, 4)},
}
HALF = np.arctanh(0.5) / 2
"""The α that makes k = ½ at the ratio 2."""


def draw(seed) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        PARAMS,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def modality_of(path):
    return path[1] if path[0] == "encoders" else None


NONE = Choice("none")


def updates_of(training, remedy=NONE, *, steps=1, image=0.8, text=0.4, key=0, epoch=0) -> Any:
    """Returns the last of some updates, in which `image` has twice the score of `text`."""
    optimizer = remedies.make(remedy).wrap(make_optimizer(training, 100), modality_of)
    params = draw(0)
    state, updates = optimizer.init(params), params
    for step in range(steps):
        updates, state = optimizer.update(
            draw(step + 1), state, params, labels=jnp.zeros(4, jnp.int32), epoch=jnp.int32(epoch),
            unimodal_logits=logits_of({"image": image, "text": text}), key=jax.random.key(key),
        )  # fmt: skip
    return updates


def ogm(**options):
    return Choice("ogm-ge", {"alpha": HALF, "noise": False, **options})


ADAMW, NESTEROV = TrainingConfig(), TrainingConfig(optimizer="nesterov", weight_decay=0.0)


@pytest.mark.parametrize(
    ("training", "stage", "factor"),
    [
        (ADAMW, "update", 0.5),
        (ADAMW, "gradient", 1.0),  # Adam divides by the gradient's scale: no effect
        (NESTEROV, "update", 0.5),
        (NESTEROV, "gradient", 0.5),
    ],
    ids=["adamw-update", "adamw-gradient", "nesterov-update", "nesterov-gradient"],
)
def test_half_halves_the_steps_of_an_encoder(training, stage, factor):
    plain = updates_of(training, steps=3)
    modulated = updates_of(training, ogm(stage=stage), steps=3)
    for name, update in plain["encoders"]["image"].items():
        np.testing.assert_allclose(modulated["encoders"]["image"][name], factor * update, rtol=1e-5)
    np.testing.assert_array_equal(modulated["encoders"]["text"]["kernel"], plain["encoders"]["text"]["kernel"])
    np.testing.assert_array_equal(modulated["head"]["kernel"], plain["head"]["kernel"])


def test_it_acts_until_an_epoch():
    plain = updates_of(ADAMW)["encoders"]["image"]["kernel"]
    for epoch, factor in ((0, 0.5), (1, 0.5), (2, 1.0), (5, 1.0)):
        modulated = updates_of(ADAMW, ogm(until=2), epoch=epoch)["encoders"]["image"]["kernel"]
        np.testing.assert_allclose(modulated, factor * plain, rtol=1e-5)


def noise_of(name, kernel="kernel", **options):
    """Returns what is added to the scaled update of a tensor."""
    loud, quiet = (
        np.asarray(updates_of(ADAMW, ogm(noise=noise), **options)["encoders"][name][kernel], np.float64)
        for noise in (True, False)
    )
    return loud - quiet


@pytest.mark.parametrize("name", ["image", "text"])  # k is ½ and 1
def test_noise_has_the_standard_deviation_of_the_unscaled_update(name):
    update = np.asarray(updates_of(ADAMW)["encoders"][name]["kernel"], np.float64)
    noise = noise_of(name)
    assert noise.std() == pytest.approx(update.std(), rel=4 / np.sqrt(2 * update.size))
    assert abs(noise.mean()) < 4 * update.std() / np.sqrt(update.size)
    assert abs(np.corrcoef(noise.ravel(), update.ravel())[0, 1]) < 4 / np.sqrt(update.size)


def test_noise_depends_on_the_key_alone():
    noise = noise_of("image")
    same = noise_of("image", image=0.4, text=0.8, epoch=3)
    np.testing.assert_allclose(noise, same, atol=1e-7)
    scale = noise.std()
    assert np.abs(noise - noise_of("image", key=1)).mean() > scale / 2
    assert np.abs(noise.ravel()[:1200] - noise_of("text").ravel()).mean() > scale / 2  # each tensor has its own


def test_a_single_number_has_no_noise():
    np.testing.assert_array_equal(noise_of("image", "scale"), [0.0])


def test_noise_leaves_joint_parts_alone():
    plain, loud = updates_of(ADAMW), updates_of(ADAMW, ogm(noise=True))
    np.testing.assert_array_equal(loud["head"]["kernel"], plain["head"]["kernel"])


NO_ENCODERS = ("early-channel", "mid-channel", "early-token", "film", "mmtm")


def test_it_applies_wherever_each_modality_has_an_encoder():
    remedy = remedies.make(Choice("ogm-ge"))
    for name in strategies(TWO):
        reason = remedy.skip(StrategySpec(name), DATASET.task)
        if name.endswith("-only"):
            assert reason == "it has one modality"
        elif name in NO_ENCODERS:
            assert reason == "it has no separate encoder of each modality"
        elif name in ("late-posthoc", "late-stacking"):
            assert reason == "it trains nothing itself"
        else:
            assert reason is None, name


ALPHA = 0.7
STILL = dataclasses.replace(
    DATASET, modalities={name: dataclasses.replace(each, augment=()) for name, each in DATASET.modalities.items()}
)
"""The data without augmentation."""


def step(label, remedy):
    """Returns the variables before and after one step of the first 16 training examples."""
    training = TrainingConfig(batch_size=16, weight_decay=0.0, remedy=remedy)
    functions = make_functions(StrategySpec(label), STILL.task, CONFIG, training, 130)
    order, seed = jnp.asarray(STILL.splits["train"]), jnp.int32(3)
    before = jit(functions.init)(seed)
    after, _ = jit(functions.train)(before, to_device(STILL), order, seed, jnp.int32(1))
    return before.variables, after.variables


class Normalised(fusion.Concat):
    """Has batch statistics, which what a modality says alone must not change."""

    def __init__(self, in_features, *, dtype=None, rngs: Any):
        super().__init__(in_features, dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(self.out_features, dtype=dtype, rngs=rngs)

    def __call__(self, features):
        return self.norm(super().__call__(features))


def test_statistics_of_an_operator_are_updated_once():
    with registered(Registration("normalised", "none", Normalised, family="intermediate", reads="features")):
        (_, plain), (_, modulated) = (step("normalised", Choice(name)) for name in ("none", "ogm-ge"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), modulated.rest, plain.rest)


@pytest.mark.parametrize("label", ["concat", "late-weighted"])
def test_one_step_of_a_strategy(label):
    """Each modality's parameters move k times as far, joint parts and batch statistics as without."""
    before, plain = step(label, Choice("none"))
    _, modulated = step(label, Choice("ogm-ge", {"alpha": ALPHA, "noise": False}))
    module: Any = nnx.eval_shape(lambda: StrategySpec(label).build(Blueprint(DATASET.task, CONFIG, jax.random.key(0))))
    module.train()
    graph, *_ = nnx.split(module, nnx.Param, ...)
    inputs, labels = gather(to_device(DATASET), jnp.asarray(DATASET.splits["train"][:16]))

    @jit
    def unimodal_logits(variables):
        module: Any = nnx.merge(graph, *variables, copy=True)
        return module.unimodal_logits(module(inputs))

    alone = unimodal_logits(before)
    factors = expected_factors(alone, np.asarray(labels), ALPHA)
    assert min(factors.values()) < 0.7 < max(factors.values()) == 1
    moved = set()
    states = [dict(nnx.to_flat_state(tree.params)) for tree in (before, plain, modulated)]
    path: Any
    for path in states[0]:
        start, end, changed = (np.asarray(state[path][...], np.float64) for state in states)
        factor = factors.get(module.modality_of(path), 1)
        np.testing.assert_allclose(changed - start, factor * (end - start), rtol=1e-3, atol=1e-7)
        moved |= {module.modality_of(path)} if (end != start).any() else set()
    assert moved == {"image", "text", None}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), modulated.rest, plain.rest)
