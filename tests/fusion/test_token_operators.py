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
    if module.norms:
        streams = {name: layer_norm(module.norms[name], x) for name, x in streams.items()}
    return np.concatenate([oracles.masked_mean(x, masks[name]) for name, x in streams.items()], axis=1)


def perceiver(module, tokens, masks):
    marked = [linear(module.projections[name], x) + array(module.marks[name]) for name, x in tokens.items()]
    source = np.concatenate(marked, axis=1)
    mask = np.concatenate([masks[name] for name in tokens], axis=1)
    z = np.stack([array(module.latents)] * BATCH)
    for cross, blocks in zip(module.cross, module.blocks, strict=True):
        z = z + oracles.attention(
            cross.attention, layer_norm(cross.norm_attention, z), mask, source=layer_norm(cross.norm_source, source)
        )
        z = mlp(cross, z)
        for block in blocks:
            z = z + oracles.attention(block.attention, layer_norm(block.norm_attention, z), np.ones(z.shape[:2], bool))
            z = mlp(block, z)
    return z.mean(1)


def stack(module, x, source, mask):
    """The layers of a transformer of MulT, on scaled tokens with sinusoidal positions."""

    def placed(tokens):
        length, width = tokens.shape[1:]
        places = np.zeros((length, width))
        for t in range(length):
            for i in range(width // 2):
                angle = (t + 1) * np.exp(-np.log(10_000) * i / max(width // 2 - 1, 1))
                places[t, i], places[t, width // 2 + i] = np.sin(angle), np.cos(angle)
        return np.sqrt(width) * tokens + places

    x, other = placed(x), None if source is None else placed(source)
    for layer in module.layers:
        read = layer_norm(layer.norm_attention, x if other is None else other)
        x = x + oracles.attention(layer.attention, layer_norm(layer.norm_attention, x), mask, source=read)
        x = x + linear(layer.contract, np.maximum(linear(layer.expand, layer_norm(layer.norm_mlp, x)), 0))
    return layer_norm(module.norm, x)


def mult(module, tokens, masks):
    z = {name: linear(module.projections[name], x) for name, x in tokens.items()}
    pooled = []
    for target in tokens:
        sources = [name for name in tokens if name != target]
        read = [stack(module.crossmodal[f"{n} to {target}"], z[target], z[n], masks[n]) for n in sources]
        joint = stack(module.memory[target], np.concatenate(read, axis=-1), None, masks[target])
        if module.pool == "last":
            pooled.append(np.stack([x[keep][-1] for x, keep in zip(joint, masks[target], strict=True)]))
        else:
            pooled.append(oracles.masked_mean(joint, masks[target]))
    return np.concatenate(pooled, axis=1)


def parameters_of_mult(d, w=8, layers=2):
    joint, count = w * (len(d) - 1), len(d)
    crossmodal = count * (count - 1) * (layers * (12 * w**2 + 13 * w) + 2 * w)
    return sum(d) * w + crossmodal + count * (12 * joint**2 + 13 * joint + 2 * joint)


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
    (
        fusion.Bottleneck, {"width": 8, "expansion": 4, "norm": True, "spread": 0.02}, bottleneck,
        lambda d: sum(x + 1 for x in d) * 8 + 4 * 8 + len(d) * (2 * (12 * 8**2 + 13 * 8) + 2 * 8),
    ),
    (
        fusion.Perceiver, {"width": 8, "latents": 3, "reads": 2, "layers": 2}, perceiver,
        lambda d: sum(x + 1 for x in d) * 8 + (len(d) + 3) * 8
        + 2 * (8 * 8**2 + 13 * 8 + 2 * (8 * 8**2 + 11 * 8)),
    ),
    (
        fusion.Perceiver, {"width": 8, "expansion": 1, "spread": 0.02}, perceiver,
        lambda d: sum(x + 1 for x in d) * 8 + (len(d) + 8) * 8 + (6 * 8**2 + 12 * 8) + (6 * 8**2 + 10 * 8),
    ),
    (fusion.CrossmodalTransformers, {"width": 8, "layers": 2}, mult, parameters_of_mult),
    (fusion.CrossmodalTransformers, {"width": 8, "layers": 2, "pool": "last"}, mult, parameters_of_mult),
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
