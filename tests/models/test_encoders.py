import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import ModelConfig
from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.models.cnn import RESNET9
from fusion_bench.models.encoders import (
    SUMMARIES,
    WIDTHS,
    GridEncoder,
    PooledEncoder,
    PooledTextEncoder,
    SequenceEncoder,
    TransformerEncoder,
    VectorEncoder,
    compute_dtype,
    make_encoder,
)
from tests import oracles
from tests.tasks import BATCH, MICRO, SPECS, STEPS, TOKENS, WORDS, build, call, jit, make_batch

FLOAT32 = jnp.dtype("float32")
ENCODERS = [
    (GridEncoder, "image"),
    (PooledTextEncoder, "text"),
    (TransformerEncoder, "text"),
    (SequenceEncoder, "motion"),
    (TransformerEncoder, "motion"),
    (VectorEncoder, "sensor"),
]


def build_encoder(make, spec, widths=MICRO) -> Any:
    return build(lambda: make(spec, widths, dtype=FLOAT32, rngs=nnx.Rngs(0)))


def build_pooled(make, spec, widths=MICRO, **how) -> Any:
    def pooled():
        return PooledEncoder(make(spec, widths, dtype=FLOAT32, rngs=nnx.Rngs(0)), dtype=FLOAT32, rngs=nnx.Rngs(0))

    return build(pooled, **how)


@pytest.mark.parametrize("shape", [(8, 8, 3), (9, 7, 1), (5, 12, 2), (3, 2, 1)], ids=str)
def test_a_grid_has_a_token_for_each_pixel_of_its_last_map(shape):
    spec = ModalitySpec("grid", shape)
    tokens, mask = call(build_encoder(GridEncoder, spec), make_batch(spec))
    assert tokens.shape == (BATCH, math.ceil(shape[0] / 4) * math.ceil(shape[1] / 4), 8)
    assert mask is None


@pytest.mark.parametrize(("make", "name"), ENCODERS)
def test_a_pooled_feature_is_the_normalised_mean_of_the_tokens(make, name):
    module, batch = build_pooled(make, SPECS[name]), make_batch(SPECS[name])
    tokens, mask = call(module.encoder, batch)
    mask = np.ones(tokens.shape[:2], bool) if mask is None else mask
    expected = oracles.batch_norm(module.norm, oracles.masked_mean(np.asarray(tokens), mask))
    pooled = call(module, batch)
    assert pooled.shape == (BATCH, module.features)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_residual_cnn_matches_its_definition():
    module = build_encoder(GridEncoder, SPECS["image"])
    batch = make_batch(SPECS["image"])
    x = oracles.cnn(module.cnn, np.asarray(batch.values, np.float64))
    np.testing.assert_allclose(call(module, batch).tokens, x.reshape(BATCH, -1, 8), atol=1e-5)


def test_batch_statistics_are_of_the_batch_in_training_and_running_in_evaluation():
    module, batch = build_encoder(GridEncoder, SPECS["image"]), make_batch(SPECS["image"])
    stem = oracles.linear(module.cnn.stages[0].stem, oracles.patches(np.asarray(batch.values), 4))
    before = np.asarray(module.cnn.stages[0].activate.norm.mean[...])

    for training, expected in ((False, before), (True, 0.9 * before + 0.1 * stem.mean((0, 1, 2)))):
        module.train() if training else module.eval()
        graph, state = nnx.split(module)

        def mean_after(state, graph=graph):
            module = nnx.merge(graph, state, copy=True)
            module(batch)
            return module.cnn.stages[0].activate.norm.mean[...]

        np.testing.assert_allclose(jit(mean_after)(state), expected, atol=1e-5)


def test_pooled_text_encoder_matches_its_definition():
    module, batch = build_encoder(PooledTextEncoder, SPECS["text"]), make_batch(SPECS["text"])
    tokens, mask = call(module, batch)
    words = oracles.array(module.embed.embedding)[np.asarray(batch.values)]
    words = np.maximum(oracles.linear(module.project, words), 0)
    np.testing.assert_allclose(tokens, words, atol=1e-5)
    np.testing.assert_array_equal(mask, batch.mask)


def test_transformer_encoder_matches_its_definition():
    module, batch = build_encoder(TransformerEncoder, SPECS["text"]), make_batch(SPECS["text"])
    tokens, mask = call(module, batch)
    embedding, positions = oracles.array(module.embed.embed.embedding), oracles.array(module.embed.position)
    expected = oracles.transformer(module.transformer, embedding[np.asarray(batch.values)] + positions, batch.mask)
    np.testing.assert_allclose(tokens, expected, atol=1e-4)
    np.testing.assert_array_equal(mask, batch.mask)


def convolution(module, x, mask, dilation):
    """Step by step: the products of one kernel with the steps that are there."""
    kernels = np.split(oracles.array(module.linear.kernel), 3)
    out = np.tile(oracles.array(module.linear.bias), (*mask.shape, 1))
    for (n, step), shift in itertools.product(np.ndindex(mask.shape), (-1, 0, 1)):
        seen = step + shift * dilation
        if 0 <= seen < mask.shape[1] and mask[n, seen]:
            out[n, step] += x[n, seen] @ kernels[shift + 1]
    return np.maximum(out, 0)


@pytest.mark.parametrize(("length", "dilations"), [(1, [1]), (3, [1]), (4, [1, 2]), (7, [1, 2]), (8, [1, 2, 4])])
def test_sequence_encoder_matches_its_definition(length, dilations):
    spec = ModalitySpec("sequence", (length, 3))
    module, batch = build_encoder(SequenceEncoder, spec), make_batch(spec)
    mask = np.array(batch.mask)
    mask[-1, 0] = length == 1  # padding may come first, too
    assert [layer.dilation for layer in module.layers] == dilations
    assert 1 + 2 * sum(dilations) >= length
    x = convolution(module.layers[0], np.asarray(batch.values, np.float64), mask, 1)
    for layer, dilation in zip(module.layers[1:], dilations[1:], strict=True):
        x = x + convolution(layer, x, mask, dilation)
    tokens, got = call(module, batch._replace(mask=jnp.asarray(mask)))
    np.testing.assert_allclose(tokens, x, atol=1e-5)
    np.testing.assert_array_equal(got, mask)


@pytest.mark.parametrize("make", [SequenceEncoder, TransformerEncoder])
def test_a_sequence_encoder_sees_the_order_of_any_two_steps(make):
    length = 9
    steps = np.zeros((2, length, 3), np.float32)
    steps[0, [0, -1], [0, 1]] = steps[1, [-1, 0], [0, 1]] = 1
    module = build_pooled(make, ModalitySpec("sequence", (length, 3)))
    one, other = np.asarray(call(module, ModalityBatch(jnp.asarray(steps), jnp.ones((2, length), bool))))
    assert np.abs(one - other).max() > 1e-3


def test_vector_encoder_matches_its_definition():
    module, batch = build_encoder(VectorEncoder, SPECS["sensor"]), make_batch(SPECS["sensor"])
    hidden = np.maximum(oracles.linear(module.first, np.asarray(batch.values)), 0)
    expected = np.maximum(oracles.linear(module.second, hidden), 0)
    tokens, mask = call(module, batch)
    np.testing.assert_allclose(tokens[:, 0], expected, atol=1e-5)
    assert tokens.shape == (BATCH, 1, MICRO.features)
    assert mask is None


@pytest.mark.parametrize(("make", "name"), ENCODERS)
def test_pooled_features_are_normalised_over_the_batch_in_training(make, name):
    module = build_pooled(make, SPECS[name], training=True)
    module.norm.scale.set_value(jnp.ones_like(module.norm.scale[...]))
    module.norm.bias.set_value(jnp.zeros_like(module.norm.bias[...]))
    pooled = np.asarray(call(module, make_batch(SPECS[name], batch=64)))
    np.testing.assert_allclose(pooled.mean(0), 0, atol=1e-5)
    deviations = pooled.std(0)  # less than 1 where few examples excite a rectified unit
    assert (deviations < 1 + 1e-3).all()
    assert (np.abs(deviations - 1) < 1e-3).sum() >= 4


@pytest.mark.parametrize("make", [PooledTextEncoder, TransformerEncoder])
def test_what_is_masked_changes_nothing(make):
    module = build_pooled(make, SPECS["text"])
    rng = np.random.default_rng(0)
    short = jnp.asarray(rng.integers(1, WORDS, (BATCH, 2)), jnp.int32)
    expected = call(module, ModalityBatch(short, jnp.ones((BATCH, 2), bool)))
    mask = jnp.broadcast_to(jnp.arange(TOKENS) < 2, (BATCH, TOKENS))
    for padding in (np.zeros((BATCH, TOKENS - 2)), rng.integers(0, WORDS, (BATCH, TOKENS - 2))):
        longer = jnp.concatenate([short, jnp.asarray(padding, jnp.int32)], axis=1)
        np.testing.assert_allclose(call(module, ModalityBatch(longer, mask)), expected, atol=1e-6)


@pytest.mark.parametrize("make", [SequenceEncoder, TransformerEncoder])
def test_masked_steps_change_nothing(make):
    module = build_pooled(make, SPECS["motion"])
    rng = np.random.default_rng(0)
    short = jnp.asarray(rng.normal(size=(BATCH, 2, 3)), jnp.float32)
    expected = call(module, ModalityBatch(short))
    mask = jnp.broadcast_to(jnp.arange(STEPS) < 2, (BATCH, STEPS))
    for padding in (np.zeros((BATCH, STEPS - 2, 3)), rng.normal(size=(BATCH, STEPS - 2, 3))):
        longer = jnp.concatenate([short, jnp.asarray(padding, jnp.float32)], axis=1)
        np.testing.assert_allclose(call(module, ModalityBatch(longer, mask)), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("make", "name"), [(make, name) for make, name in ENCODERS if SPECS[name].kind in ("tokens", "sequence")]
)
def test_an_example_without_tokens_pools_to_zero_and_its_gradient_is_finite(make, name, dtype):
    def pooled():
        rngs = nnx.Rngs(0)
        return PooledEncoder(make(SPECS[name], MICRO, dtype=jnp.dtype(dtype), rngs=rngs), dtype=FLOAT32, rngs=rngs)

    module = build(pooled)
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    batch = make_batch(SPECS[name])
    assert batch.mask is not None
    assert not batch.mask[0].any()

    def total(params, batch):
        features = nnx.merge(graph, params, rest, copy=True)(batch)
        return features.sum(), features

    for shown in (batch, batch._replace(mask=jnp.zeros_like(batch.mask))):
        (_, features), gradient = jit(jax.value_and_grad(total, has_aux=True))(params, shown)
        nothing = oracles.batch_norm(module.norm, np.zeros(module.features))
        np.testing.assert_allclose(features[0], nothing, atol=1e-5)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("text_encoder", ["pooled", "transformer"])
@pytest.mark.parametrize("name", SPECS)
def test_every_size_encodes_every_kind(size, text_encoder, name):
    """Shapes only: nothing is computed."""
    config, spec = ModelConfig(encoder=size, text_encoder=text_encoder), SPECS[name]
    if spec.kind == "grid":
        spec = ModalitySpec("grid", (32, 32, 3))

    def encode(batch):
        encoder = make_encoder(spec, config, dtype=FLOAT32, rngs=nnx.Rngs(0))
        encoded = encoder(batch)
        assert encoded.tokens.shape[-1] == encoder.features
        return encoded

    encoded = jax.eval_shape(encode, make_batch(spec))
    assert (encoded.mask is None) == (spec.kind not in ("tokens", "sequence"))


@pytest.mark.parametrize(
    ("name", "text_encoder", "kind"),
    [
        ("image", "pooled", GridEncoder),
        ("text", "pooled", PooledTextEncoder),
        ("text", "transformer", TransformerEncoder),
        ("motion", "pooled", SequenceEncoder),
        ("motion", "transformer", TransformerEncoder),
        ("sensor", "transformer", VectorEncoder),
    ],
)
def test_the_kind_and_the_configuration_choose_the_encoder(name, text_encoder, kind):
    config = ModelConfig(encoder="tiny", text_encoder=text_encoder)
    encoder = nnx.eval_shape(lambda: make_encoder(SPECS[name], config, dtype=FLOAT32, rngs=nnx.Rngs(0)))
    assert type(encoder) is kind


def test_every_size_and_text_encoder_has_a_summary():
    assert set(SUMMARIES) == {*WIDTHS, "pooled", "transformer"}


@pytest.mark.parametrize("shape", [(8, 8, 3), (9, 7, 1), (4, 4, 2)], ids=str)
def test_resnet9_on_a_tiny_grid(shape):
    spec = ModalitySpec("grid", shape)

    def encode(batch):
        encoder = GridEncoder(spec, WIDTHS["resnet9"], dtype=FLOAT32, rngs=nnx.Rngs(0))
        kernels = [p.shape for p in jax.tree.leaves(nnx.state(encoder, nnx.Param)) if p.ndim == 4]
        assert kernels.count((3, 3, 512, 512)) == 2
        return encoder(batch)

    encoded = jax.eval_shape(encode, make_batch(spec))
    side = [math.ceil(length / 8) for length in shape[:2]]
    assert encoded.tokens.shape == (BATCH, math.prod(side), 512)


def test_resnet9_pools_the_maximum():
    stages = tuple(dataclasses.replace(stage, width=2 + i) for i, stage in enumerate(RESNET9))
    widths = dataclasses.replace(WIDTHS["resnet9"], stages=stages)
    spec = ModalitySpec("grid", (16, 8, 3))
    encoder = build_pooled(GridEncoder, spec, widths)
    tokens, _ = call(encoder.encoder, make_batch(spec))
    pooled = call(encoder, make_batch(spec))
    assert np.isfinite(pooled).all()
    assert len(np.unique(pooled)) > 1
    np.testing.assert_allclose(pooled, oracles.batch_norm(encoder.norm, np.asarray(tokens).max(1)), atol=1e-5)


def test_automatic_dtype_is_float32_on_a_cpu():
    assert compute_dtype(ModelConfig()) == jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    assert compute_dtype(ModelConfig(dtype="bfloat16")) == jnp.bfloat16
