"""What joins tokens, against NumPy float64; and who sees whom."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.fusion.base import TokenFusion
from fusion_bench.fusion.registry import strategies
from tests import oracles
from tests.oracles import array, gelu, layer_norm, linear
from tests.tasks import BATCH, THREE, TWO, count_params, make_strategy

pytestmark = pytest.mark.usefixtures("tiny_widths")

LENGTHS = {"audio": 3, "image": 4, "text": 5}


def draw_tokens(module, seed=0):
    """Draws tokens and masks of every modality; the masks of texts hide some, never all."""
    rng = np.random.default_rng(seed)
    tokens = {n: rng.normal(size=(BATCH, LENGTHS[n], width)) for n, width in module.token_widths.items()}
    masks = {n: np.ones((BATCH, LENGTHS[n]), bool) for n in tokens}
    masks["text"] = np.arange(LENGTHS["text"]) <= np.arange(BATCH)[:, None] % LENGTHS["text"]
    return tokens, masks


def join(module, tokens, masks):
    tokens = {name: jnp.float32(x) for name, x in tokens.items()}
    return np.asarray(module.fuse(tokens, {name: jnp.asarray(m) for name, m in masks.items()}), np.float64)


def mlp(block, x):
    return x + linear(block.contract, gelu(linear(block.expand, layer_norm(block.norm_mlp, x))))


def cross_attention(module, tokens, masks):
    z = {name: linear(module.projections[name], x) for name, x in tokens.items()}
    pooled = []
    for target, source in itertools.permutations(tokens, 2):
        x = z[target]
        for block in module.blocks[f"{source} to {target}"]:
            read = oracles.attention(
                block.attention, layer_norm(block.norm_attention, x), masks[source],
                source=layer_norm(block.norm_source, z[source]),
            )  # fmt: skip
            x = mlp(block, x + read)
        pooled.append(oracles.masked_mean(x, masks[target]))
    return np.concatenate(pooled, axis=1)


def bottleneck(module, tokens, masks):
    streams = {name: linear(module.projections[name], x) for name, x in tokens.items()}
    shared = np.stack([array(module.shared)] * BATCH)
    for blocks in module.blocks:
        read = []
        for name, stream in streams.items():
            x = np.concatenate([stream, shared], axis=1)
            mask = np.concatenate([masks[name], np.ones(shared.shape[:2], bool)], axis=1)
            block = blocks[name]
            x = mlp(block, x + oracles.attention(block.attention, layer_norm(block.norm_attention, x), mask))
            streams[name], seen = np.split(x, [stream.shape[1]], axis=1)
            read.append(seen)
        shared = np.mean(read, axis=0)
    return np.concatenate([oracles.masked_mean(x, masks[name]) for name, x in streams.items()], axis=1)


# label, its formula, its parameters from the tokens' widths d
CASES = {
    "cross-attention:width=8:layers=2": (
        cross_attention,
        lambda d: sum(x + 1 for x in d) * 8 + len(d) * (len(d) - 1) * 2 * (8 * 8**2 + 13 * 8),
    ),
    "bottleneck:width=8:layers=2:bottlenecks=3": (
        bottleneck,
        lambda d: sum(x + 1 for x in d) * 8 + 3 * 8 + len(d) * 2 * (8 * 8**2 + 11 * 8),
    ),
}


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("label", CASES)
def test_join_is_the_formula_and_costs_what_it_says(label, names):
    module = make_strategy(label, names)
    formula, parameters = CASES[label]
    tokens, masks = draw_tokens(module)
    expected = formula(module, tokens, masks)
    np.testing.assert_allclose(join(module, tokens, masks), expected, atol=1e-5)
    assert count_params(module, without=("encoders", "head")) == parameters(
        list(module.token_widths.values())
    )
    assert module.head.hidden.in_features == expected.shape[1]


def test_every_join_of_tokens_is_tested():
    joins = {name for name, r in strategies().items() if issubclass(r.make, TokenFusion)}
    assert joins == {label.partition(":")[0] for label in CASES}


def test_one_layer_of_bottleneck_exchanges_nothing_yet():
    """What a modality writes into the shared tokens is read in the next layer."""
    module = make_strategy("bottleneck:width=8:layers=1", TWO)
    tokens, masks = draw_tokens(module)
    other = {**tokens, "text": tokens["text"][::-1]}
    assert np.abs(join(module, tokens, masks) - join(module, other, masks))[:, :8].max() == 0
