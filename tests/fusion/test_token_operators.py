"""Operators on tokens, against NumPy float64; and who sees whom."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench import fusion
from fusion_bench.fusion.registry import strategies
from fusion_bench.models.transformer import TransformerBlock
from tests import oracles
from tests.oracles import array, gelu, layer_norm, linear
from tests.tasks import BATCH, THREE, TWO, build, count_params

WIDTHS = {"audio": 4, "image": 8, "text": 6}
LENGTHS = {"audio": 3, "image": 4, "text": 5}


def make(make_operator, names, **options) -> Any:
    """Returns an operator with random variables."""
    in_features = {name: WIDTHS[name] for name in names}
    return build(lambda: make_operator(in_features, **options, rngs=nnx.Rngs(0)))


def draw_tokens(names, seed=0):
    """Draws tokens and masks of every modality; the masks of texts hide some, never all."""
    rng = np.random.default_rng(seed)
    tokens = {n: rng.normal(size=(BATCH, LENGTHS[n], WIDTHS[n])) for n in names}
    masks = {n: np.ones((BATCH, LENGTHS[n]), bool) for n in tokens}
    masks["text"] = np.arange(LENGTHS["text"]) <= np.arange(BATCH)[:, None] % LENGTHS["text"]
    return tokens, masks


def call(operator, tokens, masks):
    tokens = {name: jnp.float32(x) for name, x in tokens.items()}
    return np.asarray(operator(tokens, {name: jnp.asarray(m) for name, m in masks.items()}), np.float64)


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


# the layer and its options, its formula, its parameters from the tokens' widths d
CASES = [
    (
        fusion.CrossAttention, {"width": 8, "layers": 2}, cross_attention,
        lambda d: sum(x + 1 for x in d) * 8 + len(d) * (len(d) - 1) * 2 * (8 * 8**2 + 13 * 8),
    ),
    (
        fusion.Bottleneck, {"width": 8, "layers": 2, "bottlenecks": 3}, bottleneck,
        lambda d: sum(x + 1 for x in d) * 8 + 3 * 8 + len(d) * 2 * (8 * 8**2 + 11 * 8),
    ),
]  # fmt: skip


@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_an_operator_is_the_formula_and_costs_what_it_says(case, names):
    layer, options, formula, parameters = case
    operator = make(layer, names, **options)
    tokens, masks = draw_tokens(names)
    expected = formula(operator, tokens, masks)
    np.testing.assert_allclose(call(operator, tokens, masks), expected, atol=1e-5)
    assert operator.out_features == expected.shape[1]
    assert count_params(operator) == parameters([WIDTHS[name] for name in names])
    backwards = (dict(reversed(arrays.items())) for arrays in (tokens, masks))
    np.testing.assert_allclose(call(operator, *backwards), expected, atol=1e-5)


def test_every_operator_on_tokens_is_tested():
    operators = {r.make for r in strategies().values() if r.reads == "tokens"}
    assert operators == {layer for layer, *_ in CASES}


def test_one_layer_of_bottleneck_exchanges_nothing_yet():
    """What a modality writes into the shared tokens is read in the next layer."""
    operator = make(fusion.Bottleneck, TWO, width=8, layers=1)
    tokens, masks = draw_tokens(TWO)
    other = {**tokens, "text": tokens["text"][::-1]}
    assert np.abs(call(operator, tokens, masks) - call(operator, other, masks))[:, :8].max() == 0


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
def test_where_no_shared_token_is_visible_a_bottleneck_exchanges_nothing(cut, monkeypatch):
    """A modality's part of the result depends on its own tokens; on the others', unless the cut is made."""
    count = 3
    operator = make(fusion.Bottleneck, THREE, width=8, bottlenecks=count)
    if cut:
        attend = TransformerBlock.__call__
        monkeypatch.setattr(
            TransformerBlock, "__call__", lambda self, x, mask: attend(self, x, mask.at[:, -count:].set(False))
        )
    tokens, masks = draw_tokens(THREE)
    found = call(operator, tokens, masks)
    for changed in THREE:
        other = {**tokens, changed: tokens[changed][::-1]}
        difference = np.abs(found - call(operator, other, masks))
        for name, part in zip(THREE, np.split(difference, len(THREE), axis=1), strict=True):
            assert part.max() == 0 if cut and name != changed else part.max() > 1e-3
