from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.models.layers import Head, masked_mean, space_to_depth
from fusion_bench.models.tokens import TokenEmbedding
from fusion_bench.models.transformer import Transformer
from tests import oracles
from tests.tasks import SPECS, build, call, jit, make_batch

FLOAT32, BFLOAT16 = jnp.dtype("float32"), jnp.dtype("bfloat16")


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 4), (6, 4, 2), (7, 5, 2), (5, 9, 4), (3, 2, 1)])
def test_space_to_depth_lays_patches_row_by_row(height, width, size):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    np.testing.assert_array_equal(space_to_depth(jnp.asarray(x), size), oracles.patches(x, size))


def test_masked_mean_leaves_padding_out():
    tokens = np.random.default_rng(0).normal(size=(4, 5, 3))
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    got = jit(masked_mean)(jnp.float32(tokens), jnp.asarray(mask))
    np.testing.assert_allclose(got, oracles.masked_mean(tokens, mask), atol=1e-6)
    np.testing.assert_allclose(jit(masked_mean)(jnp.float32(tokens), None), tokens.mean(1), atol=1e-6)


def test_padding_has_no_gradient():
    tokens, mask = jnp.ones((2, 3, 1)), jnp.array([[True, True, False], [False, False, False]])
    gradient = jit(jax.grad(lambda tokens: masked_mean(tokens, mask).sum()))(tokens)
    np.testing.assert_array_equal(gradient[:, :, 0], [[0.5, 0.5, 0], [0, 0, 0]])


def test_head_is_two_layers_and_scores_in_float32():
    x = np.random.default_rng(0).normal(size=(4, 5))
    for dtype, tolerance in ((FLOAT32, 1e-5), (BFLOAT16, 5e-2)):
        module = build(lambda dtype=dtype: Head(5, 7, 3, dtype=dtype, rngs=nnx.Rngs(0)))
        logits = call(module, jnp.asarray(x, dtype))
        assert logits.dtype == jnp.float32
        np.testing.assert_allclose(logits, oracles.head(module, x), atol=tolerance)


def test_transformer_is_pre_norm_attention_and_mlp():
    module = build(lambda: Transformer(8, 4, 2, dtype=FLOAT32, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(size=(3, 5, 8))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0]], bool)
    got = call(module, jnp.float32(x), jnp.asarray(mask))
    np.testing.assert_allclose(got, oracles.transformer(module, x, mask), atol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_token_embedding_adds_positions(name):
    spec = SPECS[name]
    module: Any = build(lambda: TokenEmbedding(spec, 8, patch=4, dtype=FLOAT32, rngs=nnx.Rngs(0)))
    batch = make_batch(spec)
    values = np.asarray(batch.values)
    if spec.kind == "tokens":
        expected = oracles.array(module.embed.embedding)[values]
    elif spec.kind == "grid":
        patches = oracles.patches(values, 4)
        expected = oracles.linear(module.embed, patches.reshape(len(values), -1, patches.shape[-1]))
    else:
        expected = oracles.linear(module.embed, values if spec.kind == "sequence" else values[:, None])
    tokens, mask = call(module, batch)
    np.testing.assert_allclose(tokens, expected + oracles.array(module.position), atol=1e-5)
    np.testing.assert_array_equal(mask, np.ones(tokens.shape[:2], bool) if batch.mask is None else batch.mask)
