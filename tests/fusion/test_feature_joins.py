"""What joins pooled features, against loops in NumPy float64 written from the papers; and the parameters it costs."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.errors import UserError
from fusion_bench.fusion.base import FeatureFusion
from fusion_bench.fusion.registry import strategies
from tests import oracles
from tests.oracles import array, linear
from tests.tasks import BATCH, THREE, TWO, count_params, make_strategy

pytestmark = pytest.mark.usefixtures("tiny_widths")


def draw_features(module, batch=BATCH, seed=0):
    """Draws a pooled feature for every modality."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(batch, width)) for name, width in module.feature_widths.items()}


def join(module, features):
    return np.asarray(module.fuse({name: jnp.float32(h) for name, h in features.items()}), np.float64)


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


def attention(module, features):
    u = list(projected(module, features).values())
    scores = np.concatenate([linear(module.score, np.tanh(x)) for x in u], axis=1)
    weights = oracles.softmax(scores)
    return np.sum([weights[:, i : i + 1] * x for i, x in enumerate(u)], axis=0)


def multiplicative(module, features):
    first, second, product = features["image"], features["text"], array(module.product)
    product = product / np.sqrt(first.shape[1] * second.shape[1])
    out = linear(module.linear["image"], first) + linear(module.linear_second["text"], second)
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
    z, core = [np.tanh(z) for z in projected(module, features).values()], array(module.core)
    out = np.zeros((len(z[0]), core.shape[-1]))
    for b, *index in itertools.product(range(len(out)), *map(range, core.shape[:-1])):
        out[b] += math.prod(x[b, i] for x, i in zip(z, index, strict=True)) * core[tuple(index)]
    return out


def mutan(module, features):
    z = {name: np.tanh(z) for name, z in projected(module, features).items()}
    rank = array(module.factors[next(iter(z))]).shape[0]
    terms = [[z[name] @ array(module.factors[name])[r] for name in z] for r in range(rank)]
    return np.sum([np.prod(term, axis=0) for term in terms], axis=0)


def sum_groups(x, k):
    return np.stack([x[:, i : i + k].sum(1) for i in range(0, x.shape[1], k)], axis=1)


def mfb(module, features):
    product = np.prod(list(projected(module, features).values()), axis=0)
    return root_and_length(sum_groups(product, module.k))


def mfh(module, features):
    expanded, pooled = 1.0, []
    for block in module.blocks:
        for name, h in features.items():
            expanded = expanded * linear(block[name], h)
        pooled.append(root_and_length(sum_groups(expanded, module.k)))
    return np.concatenate(pooled, axis=1)


def block(module, features):
    z = projected(module, features)
    chunks, rank, size, _ = array(module.factors[next(iter(z))]).shape
    pieces = []
    for c in range(chunks):
        piece = 0.0
        for r in range(rank):
            piece = piece + np.prod(
                [z[n][:, c * size : (c + 1) * size] @ array(module.factors[n])[c, r] for n in z], axis=0
            )
        pieces.append(root_and_length(piece))
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


# label, its formula, its parameters from the features' widths d, whether it is defined for three
CASES = {
    "concat": (concat, lambda d: 0, True),
    "sum:width=5": (sum_, lambda d: sum(x + 1 for x in d) * 5, True),
    "gmu:width=5": (gmu, lambda d: sum(d) * 5 * (1 + (1 if len(d) == 2 else len(d))), True),
    "gated:width=5": (gated, lambda d: sum(x + 1 for x in d) * 5, False),
    "gated:width=5:swap=true": (gated_swapped, lambda d: sum(x + 1 for x in d) * 5, False),
    "attention:width=5": (attention, lambda d: sum(x + 1 for x in d) * 5 + 5, True),
    "multiplicative:width=5": (multiplicative, lambda d: (math.prod(d) + sum(d) + 1) * 5, False),
    "low-rank:rank=3:width=5": (low_rank, lambda d: 3 * 5 * sum(x + 1 for x in d) + 3 + 5, True),
    "mlb:width=5": (mlb, lambda d: sum(x + 1 for x in d) * 5, True),
    "tucker:width=3:out=5": (tucker, lambda d: sum(x + 1 for x in d) * 3 + 3 ** len(d) * 5, True),
    "mutan:rank=2:width=3:out=5": (mutan, lambda d: sum(x + 1 for x in d) * 3 + len(d) * 2 * 3 * 5, True),
    "mfb:k=2:width=5": (mfb, lambda d: sum(x + 1 for x in d) * 10, True),
    "mfh:p=3:k=2:width=5": (mfh, lambda d: 3 * sum(x + 1 for x in d) * 10, True),
    "block:width=6:chunks=2:rank=4": (
        block, lambda d: sum(x + 1 for x in d) * 6 + len(d) * 4 * 6**2 // 2, True,
    ),
    "compact-bilinear:width=7": (compact_bilinear, lambda d: 0, True),
    "compact-bilinear:width=7:one=false": (compact_bilinear, lambda d: 0, True),
}  # fmt: skip
FOR_TWO = [label for label, (_, _, three) in CASES.items() if not three]


@pytest.mark.parametrize(
    ("label", "names"),
    [(label, names) for label in CASES for names in (TWO, THREE) if label not in FOR_TWO or names == TWO],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_join_is_the_formula_and_costs_what_it_says(label, names):
    module = make_strategy(label, names)
    if label.startswith("compact-bilinear"):  # signs and places, which random numbers are not
        redraw_sketches(module)
    formula, parameters, _ = CASES[label]
    features = draw_features(module)
    expected = formula(module, features)
    np.testing.assert_allclose(join(module, features), expected, atol=1e-5)
    assert count_params(module, without=("encoders", "head")) == parameters(
        list(module.feature_widths.values())
    )
    assert module.head.hidden.in_features == expected.shape[1]


def redraw_sketches(module: Any, seed=0):
    from fusion_bench.fusion.tensor.compact_bilinear import draw_sketch

    for i, sketch in enumerate(module.sketches.values()):
        features, width = sketch.shape
        sketch.set_value(draw_sketch(features, width, jax.random.fold_in(jax.random.key(seed), i)))


@pytest.mark.parametrize("label", FOR_TWO)
def test_what_is_defined_for_two_says_so_for_three(label):
    with pytest.raises(UserError, match="joins two modalities; these are audio, image, text"):
        make_strategy(label, THREE)


def test_every_join_of_pooled_features_is_tested():
    joins = {name for name, r in strategies().items() if issubclass(r.make, FeatureFusion)}
    assert joins - {"tensor"} == {label.partition(":")[0] for label in CASES}
