"""Operators on features, against loops in NumPy float64 written from the papers; and the parameters they cost."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench import fusion
from fusion_bench.fusion.registry import strategies
from fusion_bench.fusion.tensor.compact_bilinear import draw_sketch
from tests import oracles
from tests.oracles import array, linear
from tests.tasks import BATCH, THREE, TWO, build, count_params

WIDTHS = {"audio": 4, "image": 8, "text": 6}
"""Widths of the modalities' features."""


def make(make_operator, names, options) -> Any:
    """Returns an operator with random variables."""
    in_features = {name: WIDTHS[name] for name in names}
    return build(lambda: make_operator(in_features, **options, rngs=nnx.Rngs(0)))


def draw_features(names, batch=BATCH, seed=0):
    """Draws features of every modality."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(batch, WIDTHS[name])) for name in names}


def call(operator, features):
    return np.asarray(operator({name: jnp.float32(h) for name, h in features.items()}), np.float64)


# --- the formulas, example by example


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def projected(module, features):
    return {name: linear(module.projections[name], h) for name, h in features.items()}


def with_one(h):
    return np.concatenate([np.ones((len(h), 1)), h], axis=1)


def root_and_length(x):
    """Signed square root, then unit length over the last axis."""
    root = np.sign(x) * np.sqrt(np.abs(x))
    return root / np.sqrt((root**2).sum(-1, keepdims=True))


def concat(module, features):
    return np.concatenate(list(features.values()), axis=1)


def sum_(module, features):
    return np.sum(list(projected(module, features).values()), axis=0)


def gmu(module, features):
    z, everything = projected(module, features), concat(module, features)
    if len(features) == 2:
        first, second = features
        gate = sigmoid(linear(module.gates[first], everything))
        return gate * np.tanh(z[first]) + (1 - gate) * np.tanh(z[second])
    return np.sum([sigmoid(linear(module.gates[n], everything)) * np.tanh(z[n]) for n in features], axis=0)


def gated(module, features):
    z = projected(module, features)
    return sigmoid(z["text"]) * z["image"]


def gated_swapped(module, features):
    z = projected(module, features)
    return sigmoid(z["image"]) * z["text"]


def gmu_projected(module, features):
    """As in the authors' code: the gate sees the projections."""
    z = projected(module, features)
    everything = np.concatenate([*z.values()], axis=1)
    if len(features) == 2:
        (first, second), gate = z.values(), sigmoid(linear(module.gates[next(iter(features))], everything))
        return gate * np.tanh(first) + (1 - gate) * np.tanh(second)
    return np.sum([sigmoid(linear(module.gates[n], everything)) * np.tanh(z[n]) for n in features], axis=0)


def attention(module, features):
    u = list(projected(module, features).values())
    scored = [linear(module.scored[name], h) for name, h in features.items()]
    scores = np.concatenate([linear(module.score, np.tanh(x)) for x in scored], axis=1)
    weights = oracles.softmax(scores)
    return np.sum([weights[:, i : i + 1] * x for i, x in enumerate(u)], axis=0)


def multiplicative(module, features):
    first, second, product = features["image"], features["text"], array(module.product)
    product = product / np.sqrt(first.shape[1] * second.shape[1])
    out = linear(module.first, first) + linear(module.second, second)
    for b, k in np.ndindex(out.shape):
        out[b, k] += first[b] @ product[:, :, k] @ second[b]
    return out


def outer_ones(features):
    """The outer product of all [1; h_m], one entry at a time: [batch, d_1 + 1, …, d_M + 1]."""
    extended = [with_one(h) for h in features.values()]
    out = np.zeros((len(extended[0]), *(x.shape[1] for x in extended)))
    for b, *index in np.ndindex(out.shape):
        out[(b, *index)] = math.prod(x[b, i] for x, i in zip(extended, index, strict=True))
    return out


def outer_product(module, features):
    return outer_ones(projected(module, features)).reshape(len(features["image"]), -1)


def low_rank(module, features):
    """As the linear map of the full outer product that the factors stand for."""
    rank, width = len(array(module.weights)), len(array(module.bias))
    factors = []
    for name in features:
        linear = module.factors[name]
        rows = np.concatenate([array(linear.bias)[None], array(linear.kernel)])  # the first is that of the 1
        factors.append(rows.reshape(-1, rank, width).swapaxes(0, 1))
    axes = "ijl"[: len(factors)]
    terms = ",".join(f"r{axis}k" for axis in axes)
    tensor = np.einsum(f"r,{terms}->{axes}k", array(module.weights), *factors)
    return np.einsum(f"b{axes},{axes}k->bk", outer_ones(features), tensor) + array(module.bias)


def mlb(module, features):
    return np.prod([np.tanh(z) for z in projected(module, features).values()], axis=0)


def tucker(module, features):
    z, core = [*projected(module, features).values()], array(module.core)
    z = [np.tanh(x) for x in z] if module.bounded else z
    out = np.zeros((len(z[0]), core.shape[-1])) + (0 if module.bias is None else array(module.bias))
    for b, *index in itertools.product(range(len(out)), *map(range, core.shape[:-1])):
        out[b] += math.prod(x[b, i] for x, i in zip(z, index, strict=True)) * core[tuple(index)]
    return out


def mutan(module, features):
    z = {name: np.tanh(z) if module.bounded else z for name, z in projected(module, features).items()}
    rank = array(module.factors[next(iter(z))]).shape[0]
    bias = {name: array(module.biases[name]) if module.biases else np.zeros(rank) for name in z}
    terms = [[z[name] @ array(module.factors[name])[r] + bias[name][r] for name in z] for r in range(rank)]
    return np.sum([np.prod(term, axis=0) for term in terms], axis=0)


def sum_groups(x, k):
    return np.stack([x[:, i : i + k].sum(1) for i in range(0, x.shape[1], k)], axis=1)


def mfb(module, features):
    product = np.prod(list(projected(module, features).values()), axis=0)
    return root_and_length(sum_groups(product, product.shape[1] // module.out_features))


def mfh(module, features):
    expanded: Any = 1.0
    pooled = []
    for block in module.blocks:
        for name, h in features.items():
            expanded = expanded * linear(block[name], h)
        pooled.append(root_and_length(sum_groups(expanded, expanded.shape[1] // module.width)))
    return np.concatenate(pooled, axis=1)


def block(module, features):
    z = projected(module, features)
    matrices = [{n: array(module.factors[n])[c] for n in z} for c in range(len(array(module.factors["image"])))]
    if module.last is not None:
        matrices.append({n: array(module.last[n])[0] for n in z})
    pieces, start = [], 0
    for of_chunk in matrices:
        rank, size, _ = of_chunk["image"].shape
        part, piece = slice(start, start + size), 0.0
        for r in range(rank):
            terms = [z[n][:, part] @ of_chunk[n][r] for n in z]
            if module.biases:
                terms = [term + array(module.biases[n])[r, part] for term, n in zip(terms, z, strict=True)]
            piece = piece + np.prod(terms, axis=0)
        pieces.append(root_and_length(piece))
        start += size
    return np.concatenate(pieces, axis=1)


def compact_bilinear(module, features):
    """The count sketch of the outer product itself: places add up modulo the width, signs multiply."""
    sketches = [array(module.sketches[name]) for name in features]
    width = sketches[0].shape[1]
    places, signs = [s.__abs__().argmax(1) for s in sketches], [s.sum(1) for s in sketches]
    values = list(features.values())
    if module.one:
        values = [with_one(h / (4 * np.sqrt(h.shape[1]))) for h in values]
    out = np.zeros((len(values[0]), width))
    for index in itertools.product(*(range(x.shape[1]) for x in values)):
        place = sum(int(p[i]) for p, i in zip(places, index, strict=True)) % width
        sign = math.prod(s[i] for s, i in zip(signs, index, strict=True))
        out[:, place] += sign * math.prod(x[:, i] for x, i in zip(values, index, strict=True))
    return root_and_length(out)


def moe(module, features):
    """Each example by itself: its best experts, weighted by the softmax of their scores alone; one by that of all."""
    h = concat(module, features)
    expand, bias, contract = array(module.expand), array(module.bias), array(module.contract)
    out = np.zeros((len(h), contract.shape[-1]))
    for b, scores in enumerate(linear(module.router, h)):
        best = np.argsort(-scores)[: module.top]
        gates = oracles.softmax(scores)[best] if module.top == 1 else oracles.softmax(scores[best])
        for expert, gate in zip(best, gates, strict=True):
            out[b] += gate * np.maximum(h[b] @ expand[expert] + bias[expert], 0) @ contract[expert]
    return out


# the layer and its options, its formula, its parameters from the features' widths d
CASES = [
    (fusion.Concat, {}, concat, lambda d: 0),
    (fusion.Sum, {"out_features": 5}, sum_, lambda d: sum(x + 1 for x in d) * 5),
    (
        fusion.GatedMultimodalUnit, {"out_features": 5},
        gmu, lambda d: sum(d) * 5 * (1 + (1 if len(d) == 2 else len(d))),
    ),
    (fusion.Gated, {"out_features": 5}, gated, lambda d: sum(x + 1 for x in d) * 5),
    (fusion.Gated, {"out_features": 5, "swap": True}, gated_swapped, lambda d: sum(x + 1 for x in d) * 5),
    (fusion.Attention, {"out_features": 5}, attention, lambda d: sum(x + 1 for x in d) * 5 + 5),
    (fusion.Multiplicative, {"out_features": 5}, multiplicative, lambda d: (math.prod(d) + sum(d) + 1) * 5),
    (fusion.OuterProduct, {"width": 3}, outer_product, lambda d: sum(x + 1 for x in d) * 3),
    (fusion.LowRank, {"rank": 3, "out_features": 5}, low_rank, lambda d: 15 * sum(x + 1 for x in d) + 3 + 5),
    (fusion.LowRankBilinear, {"out_features": 5}, mlb, lambda d: sum(x + 1 for x in d) * 5),
    (
        fusion.Tucker, {"width": 3, "out_features": 5},
        tucker, lambda d: sum(x + 1 for x in d) * 3 + 3 ** len(d) * 5,
    ),
    (
        fusion.Mutan, {"rank": 2, "width": 3, "out_features": 5},
        mutan, lambda d: sum(x + 1 for x in d) * 3 + len(d) * 2 * 3 * 5,
    ),
    (fusion.FactorizedBilinear, {"k": 2, "out_features": 5}, mfb, lambda d: sum(x + 1 for x in d) * 10),
    (fusion.FactorizedHighOrder, {"p": 3, "k": 2, "width": 5}, mfh, lambda d: 3 * sum(x + 1 for x in d) * 10),
    (
        fusion.BlockTerm, {"out_features": 6, "chunks": 2, "rank": 4},
        block, lambda d: sum(x + 1 for x in d) * 6 + len(d) * 4 * 6**2 // 2,
    ),
    (
        fusion.BlockTerm, {"out_features": 7, "chunks": 3, "rank": 2, "even": False, "bias": True},
        block, lambda d: sum(x + 1 for x in d) * 7 + len(d) * 2 * (3**2 + 3**2 + 1 + 7),
    ),
    (
        fusion.GatedMultimodalUnit, {"out_features": 5, "projected": True},
        gmu_projected, lambda d: sum(d) * 5 + (1 if len(d) == 2 else len(d)) * len(d) * 5**2,
    ),
    (
        fusion.Attention, {"out_features": 5, "shared": False},
        attention, lambda d: 2 * sum(x + 1 for x in d) * 5 + 5,
    ),
    (
        fusion.OuterProduct, {"width": 3, "widths": "text=2"},
        outer_product, lambda d: (8 + 1) * 3 + (6 + 1) * 2 + ((4 + 1) * 3 if len(d) == 3 else 0),
    ),
    (
        fusion.Tucker, {"width": 3, "widths": "text=2", "out_features": 5, "bounded": False, "bias": True},
        tucker, lambda d: (8 + 1) * 3 + (6 + 1) * 2 + 6 * 5 + 5 + ((4 + 1) * 3 + 12 * 5 if len(d) == 3 else 0),
    ),
    (
        fusion.Mutan, {"rank": 2, "width": 3, "widths": "text=2", "out_features": 5, "bounded": False, "bias": True},
        mutan, lambda d: (8 + 1) * 3 + (6 + 1) * 2 + 2 * 5 * 5 + 2 * 2 * 5
        + ((4 + 1) * 3 + 2 * 3 * 5 + 2 * 5 if len(d) == 3 else 0),
    ),
    (fusion.CompactBilinear, {"out_features": 7}, compact_bilinear, lambda d: 0),
    (fusion.CompactBilinear, {"out_features": 7, "one": False}, compact_bilinear, lambda d: 0),
    (
        fusion.MixtureOfExperts, {"out_features": 5, "hidden": 3, "experts": 4, "top": 2},
        moe, lambda d: 4 * (sum(d) * (3 + 1) + 3 * (1 + 5)),
    ),
    (
        fusion.MixtureOfExperts, {"out_features": 5, "hidden": 3, "experts": 3, "top": 1},
        moe, lambda d: 3 * (sum(d) * (3 + 1) + 3 * (1 + 5)),
    ),
]  # fmt: skip
FOR_TWO = (fusion.Gated, fusion.Multiplicative)


@pytest.mark.parametrize(
    ("case", "names"),
    [(case, names) for case in CASES for names in (TWO, THREE) if names is TWO or case[0] not in FOR_TWO],
    ids=lambda value: "-".join(map(str, (value[0].__name__, *value[1]))) if callable(value[0]) else len(value),
)
def test_an_operator_is_the_formula_and_costs_what_it_says(case, names):
    layer, options, formula, parameters = case
    operator = make(layer, names, options)
    if layer is fusion.CompactBilinear:  # signs and places, which random numbers are not
        redraw_sketches(operator)
    features = draw_features(names)
    expected = formula(operator, features)
    np.testing.assert_allclose(call(operator, features), expected, atol=1e-5)
    assert operator.out_features == expected.shape[1]
    assert count_params(operator) == parameters([WIDTHS[name] for name in names])
    backwards = call(operator, dict(reversed(features.items())))
    np.testing.assert_allclose(backwards, expected, atol=1e-5)


def redraw_sketches(operator, seed=0):
    for i, sketch in enumerate(operator.sketches.values()):
        features, width = sketch.shape
        sketch.set_value(draw_sketch(features, width, jax.random.fold_in(jax.random.key(seed), i)))


@pytest.mark.parametrize("top", [1, 2, 4])
def test_the_penalty_of_a_mixture_of_experts_is_least_where_they_share_the_examples(top):
    """balance · E · Σ_e f_e P_e, counted choice by choice; 1 if f and P are uniform, E if one expert takes all."""
    operator, features = make(fusion.MixtureOfExperts, TWO, {"top": top, "balance": 0.5}), draw_features(TWO)
    scores = linear(operator.router, concat(operator, features))
    counts = np.zeros(4)
    for row in scores:
        counts[np.argsort(-row)[:top]] += 1
    expected = 0.5 * 4 * (counts / (top * BATCH)) @ oracles.softmax(scores).mean(0)
    found = operator.penalty({name: jnp.float32(h) for name, h in features.items()})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("top", [1, 2])
def test_the_loss_trains_the_router_of_a_mixture_of_experts(top):
    operator = make(fusion.MixtureOfExperts, TWO, {"top": top})
    features = {name: jnp.float32(h) for name, h in draw_features(TWO).items()}
    grads = nnx.grad(lambda operator: (operator(features) ** 2).sum())(operator)
    assert np.abs(grads["router"]["kernel"][...]).max() > 1e-3


def test_experts_that_are_level_are_chosen_as_often_as_others():
    operator = make(fusion.MixtureOfExperts, TWO, {"top": 2})
    features = {name: jnp.zeros_like(h, jnp.float32) for name, h in draw_features(TWO).items()}
    assert float(operator.penalty(features)) == pytest.approx(0.01)  # f sums to 1


def test_a_mixture_of_experts_cannot_choose_more_than_there_are():
    with pytest.raises(ValueError, match="top=5 is more than there are experts, 4"):
        make(fusion.MixtureOfExperts, TWO, {"top": 5})


STARTING = (
    (fusion.LowRank, "factors"), (fusion.LowRankBilinear, "projections"), (fusion.Mutan, "projections"),
    (fusion.Tucker, "projections"), (fusion.FactorizedBilinear, "projections"), (fusion.BlockTerm, "projections"),
)  # fmt: skip


@pytest.mark.parametrize(("start", "mean", "deviation"), [("one", 1, 0.5), ("zero", 0, 1)])
@pytest.mark.parametrize(("layer", "part"), STARTING, ids=lambda value: getattr(value, "__name__", ""))
def test_factors_start_around_one_or_as_published_around_zero(layer, part, start, mean, deviation):
    operator = layer(dict.fromkeys(TWO, 300), start=start, rngs=nnx.Rngs(0))
    features = np.random.default_rng(0).normal(size=(50, 300))
    factors = np.concatenate([linear(each, features).ravel() for each in getattr(operator, part).values()])
    assert factors.mean() == pytest.approx(mean, abs=0.05)
    assert factors.std() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("widths", ["text", "sound=3", "text=0", "text=x", "text=3,image=2"])
def test_widths_that_are_none_are_refused(widths):
    with pytest.raises(ValueError, match="should be like image=16\\+text=16"):
        make(fusion.OuterProduct, TWO, {"widths": widths})


def test_chunks_that_would_be_empty_are_refused():
    with pytest.raises(ValueError, match="5 cannot be cut into 4 chunks of 2"):
        make(fusion.BlockTerm, TWO, {"out_features": 5, "chunks": 4, "even": False})


@pytest.mark.parametrize("layer", FOR_TWO)
def test_an_operator_for_two_says_so_for_three(layer):
    with pytest.raises(ValueError, match="defined for two modalities; these are audio, image, text"):
        make(layer, THREE, {})


@pytest.mark.parametrize("hidden", [2, 4], ids=["factor by factor", "through the product"])
@pytest.mark.parametrize("widths", ["", "text=5"])
@pytest.mark.parametrize("names", [TWO, THREE], ids=len)
def test_a_kernel_is_applied_as_to_the_outer_product(names, widths, hidden):
    operator, features = make(fusion.OuterProduct, names, {"width": 3, "widths": widths}), draw_features(names)
    kernel = np.random.default_rng(1).normal(size=(operator.out_features, hidden))
    applied = operator.apply_kernel({n: jnp.float32(h) for n, h in features.items()}, jnp.float32(kernel))
    np.testing.assert_allclose(applied, outer_product(operator, features) @ kernel, atol=1e-5)


def test_every_operator_on_features_is_tested():
    operators = {r.make for r in strategies().values() if r.reads == "features"}
    assert operators == {layer for layer, *_ in CASES}
