"""The operators against NumPy float64, from the published formulas."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.fusion.base import smoothed_cross_entropy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import parse_strategies
from fusion_bench.models.encoders import HEADS
from tests import oracles
from tests.tasks import (
    BATCH,
    CLASSES,
    CONFIG,
    THREE,
    TINY,
    TOKENS,
    TWO,
    WORDS,
    call,
    count_params,
    make_inputs,
    make_strategy,
    make_task,
)

pytestmark = pytest.mark.usefixtures("tiny_widths")

FEATURES = {"audio": 8, "image": 8, "text": 6}


def make(label, names) -> Any:
    """Returns a strategy with random variables, and inputs for it."""
    return make_strategy(label, names), make_inputs(make_task(*names))


def encoded(encoder, batch):
    return np.asarray(call(encoder, batch), np.float64)


@pytest.mark.parametrize("width", [3, TINY.hidden])  # the product is made, and is not
@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_tensor_is_the_outer_product_of_features_with_a_one(names, width):
    module, inputs = make(f"tensor:width={width}", names)
    z = []
    for name in names:
        projected = oracles.linear(module.projections[name], encoded(module.encoders[name], inputs[name]))
        z.append(np.concatenate([np.ones((BATCH, 1)), projected], axis=1))
    joint = np.zeros((BATCH, (width + 1) ** len(names)))
    for example in range(BATCH):
        for entry, index in enumerate(itertools.product(range(width + 1), repeat=len(names))):
            joint[example, entry] = math.prod(factor[example, i] for factor, i in zip(z, index, strict=True))
    np.testing.assert_allclose(module(inputs).logits, oracles.head(module.head, joint), atol=1e-5)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_late_mean(names):
    module, inputs = make("late-mean", names)
    outputs = module(inputs)
    scores = []
    for name in names:
        member = module.members[name]
        scores.append(oracles.head(member.head, encoded(member.encoder, inputs[name])))
        np.testing.assert_allclose(outputs.by_modality[name], scores[-1], atol=1e-5)
    np.testing.assert_allclose(outputs.logits, np.mean(scores, axis=0), atol=1e-5)


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_late_posthoc_is_a_product_of_calibrated_experts_over_the_prior(names):
    module, inputs = make("late-posthoc", names)
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
    np.testing.assert_allclose(outputs.logits, module.fuse(outputs.by_modality), atol=1e-6)
    for name in names:
        member = module.members[name]
        scores = oracles.head(member.head, encoded(member.encoder, inputs[name]))
        np.testing.assert_allclose(outputs.by_modality[name], scores, atol=1e-5)


def test_late_posthoc_starts_from_a_uniform_prior_and_no_temperature():
    task = make_task(*TWO)
    (spec,) = parse_strategies("late-posthoc", task)
    module: Any = spec.build(Blueprint(task, CONFIG, jax.random.key(0)))
    np.testing.assert_allclose(module.log_prior[...], np.full(CLASSES, -np.log(CLASSES)), rtol=1e-6)
    assert all(float(temperature[...]) == 1 for temperature in module.temperatures.values())


def test_late_posthoc_fits_each_temperature_and_takes_the_prior():
    module, _ = make("late-posthoc", TWO)
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


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_early_token_is_one_transformer_over_all_tokens(names):
    module, inputs = make("early-token", names)
    tokens, masks = [], []
    for name in names:
        embedding, values = module.embeddings[name], np.asarray(inputs[name].values)
        if name == "text":
            embedded, mask = oracles.array(embedding.embed.embedding)[values], np.asarray(inputs[name].mask)
        else:
            patches = oracles.patches(values, TINY.patch)
            embedded = oracles.linear(embedding.embed, patches.reshape(BATCH, -1, patches.shape[-1]))
            mask = np.ones(embedded.shape[:2], bool)
        tokens.append(embedded + oracles.array(embedding.position))
        masks.append(mask)
    tokens, mask = np.concatenate(tokens, axis=1), np.concatenate(masks, axis=1)
    features = oracles.masked_mean(oracles.transformer(module.transformer, tokens, mask), mask)
    np.testing.assert_allclose(call(module, inputs).logits, oracles.head(module.head, features), atol=1e-5)


def head_size(in_features):
    return in_features * TINY.hidden + TINY.hidden + TINY.hidden * CLASSES + CLASSES


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_parameters_of_concat_and_tensor(names):
    features = sum(FEATURES[name] for name in names)
    concat, _ = make("concat", names)
    encoders = sum(count_params(concat.encoders[name]) for name in names)
    assert count_params(concat) == encoders + head_size(features)

    width = 3
    tensor, _ = make(f"tensor:width={width}", names)
    projections = width * features + width * len(names)
    assert count_params(tensor) == encoders + projections + head_size((width + 1) ** len(names))


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_parameters_of_early_token(names):
    w, patches, mono_patches = TINY.tokens, 2 * 2, 2 * 2  # 8×8 and 6×5 pixels
    embeddings = {
        "audio": (TINY.patch**2 + 1) * w + mono_patches * w,
        "image": (TINY.patch**2 * 3 + 1) * w + patches * w,
        "text": WORDS * w + TOKENS * w,
    }
    transformer = TINY.layers * (8 * w**2 + 11 * w) + 2 * w
    expected = sum(embeddings[name] for name in names) + transformer + head_size(w)
    assert count_params(make_strategy("early-token", names)) == expected


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_parameters_of_late_fusion_are_those_of_the_unimodal_models(names):
    unimodal = sum(count_params(make(f"{name}-only", names)[0]) for name in names)
    for label in ("late-mean", "late-posthoc"):
        assert count_params(make(label, names)[0]) == unimodal


def test_the_joint_transformer_has_the_depth_and_heads_of_its_size():
    module, _ = make("early-token", TWO)
    assert len(module.transformer.blocks) == TINY.layers
    assert module.transformer.blocks[0].attention.num_heads == HEADS


def test_smoothed_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels, smoothing = rng.normal(size=(BATCH, CLASSES)), rng.integers(0, CLASSES, BATCH), 0.2
    expected = 0.0
    for scores, label in zip(logits, labels, strict=True):
        q = np.full(CLASSES, smoothing / CLASSES)
        q[label] += 1 - smoothing
        expected -= q @ oracles.log_softmax(scores) / BATCH
    got = smoothed_cross_entropy(jnp.float32(logits), jnp.asarray(labels), smoothing)
    assert float(got) == pytest.approx(expected, abs=1e-5)
