"""What the operators are in exact arithmetic: which contain which, and what a sketch keeps."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench import fusion
from fusion_bench.fusion.tensor import block, compact_bilinear
from fusion_bench.models.portable import portable
from tests.oracles import array
from tests.tasks import BATCH, TWO, build, jit

IMAGE, TEXT = 8, 6
"""Widths of the features."""


def make(make_operator, **options) -> Any:
    """Returns an operator with random variables."""
    return build(lambda: make_operator({"image": IMAGE, "text": TEXT}, **options, rngs=nnx.Rngs(0)))


def draw_features(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(BATCH, width)) for name, width in zip(TWO, (IMAGE, TEXT), strict=True)}


def call(module, features):
    return np.asarray(module({name: jnp.float32(h) for name, h in features.items()}), np.float64)


# --- a factorised operator of sufficient rank is the full bilinear form h_1ᵀ W_k h_2


@pytest.fixture
def plain(monkeypatch):
    """Takes the nonlinearities and the normalisation out of the operators."""
    monkeypatch.setattr(jnp, "tanh", lambda x: x)
    monkeypatch.setattr(block, "power_normalize", lambda x: x)


def draw_form(outputs, seed=1):
    return np.random.default_rng(seed).normal(size=(IMAGE, TEXT, outputs))


def bilinear(form, features):
    return np.einsum("bi,bj,ijk->bk", features["image"], features["text"], form)


def factorise(form, rank):
    """The nearest sum of so many terms left[r, i, k] · right[r, j, k], for each output k by itself."""
    u, s, vh = np.linalg.svd(np.moveaxis(form, -1, 0), full_matrices=False)
    left = np.einsum("kir,kr->rik", u, s)[:rank]
    return left, np.moveaxis(vh, 0, -1)[:rank]


def put(variable, values):
    assert variable.shape == np.shape(values)
    variable.set_value(jnp.float32(values))


def put_linear(module, kernel):
    put(module.kernel, kernel)
    put(module.bias, np.zeros(np.shape(kernel)[-1]))


def copy_features(module, rows: Sequence[int] = range(TEXT)):
    """Makes z_1 = h_1, and z_2 = h_2 with entry j in place rows[j] and zeros elsewhere."""
    put_linear(module.projections["image"], np.eye(IMAGE))
    put_linear(module.projections["text"], np.eye(IMAGE)[list(rows)])


def pad(right):
    """[rank, text, out] → [rank, image, out]: weights of the zeros in z_2."""
    return np.pad(right, ((0, 0), (0, IMAGE - TEXT), (0, 0)))


def tucker(form, rank):
    module = make(fusion.Tucker, width=rank, out_features=form.shape[-1])
    copy_features(module)
    put(module.core, np.pad(form, ((0, 0), (0, IMAGE - TEXT), (0, 0))))
    return module


def low_rank(form, rank):
    outputs = form.shape[-1]
    module = make(fusion.LowRank, rank=rank, out_features=outputs)
    for name, factor in zip(TWO, factorise(form, rank), strict=True):
        put_linear(module.factors[name], np.moveaxis(factor, 1, 0).reshape(-1, rank * outputs))
    put(module.weights, np.ones(rank))
    put(module.bias, np.zeros(outputs))
    return module


def mutan(form, rank):
    module = make(fusion.Mutan, rank=rank, width=IMAGE, out_features=form.shape[-1])
    left, right = factorise(form, rank)
    copy_features(module)
    put(module.factors["image"], left)
    put(module.factors["text"], pad(right))
    return module


def one_block(form, rank):
    module = make(fusion.BlockTerm, out_features=form.shape[-1], chunks=1, rank=rank)
    left, right = factorise(form, rank)
    copy_features(module)
    put(module.factors["image"], left[None])
    put(module.factors["text"], pad(right)[None])
    return module


# the module for a form, the outputs, the rank that is enough for every form
FORMS = {
    "tucker": (tucker, 5, IMAGE),
    "low-rank": (low_rank, 5, TEXT),
    "mutan": (mutan, 5, TEXT),
    "block": (one_block, IMAGE, TEXT),
}


@pytest.mark.parametrize("label", FORMS)
def test_sufficient_rank_gives_any_bilinear_form(label, plain):
    express, outputs, rank = FORMS[label]
    form, features = draw_form(outputs), draw_features()
    np.testing.assert_allclose(call(express(form, rank), features), bilinear(form, features), atol=1e-4)


@pytest.mark.parametrize("label", ["low-rank", "mutan", "block"])
def test_one_rank_less_gives_the_nearest_form_of_that_rank_and_not_any(label, plain):
    express, outputs, rank = FORMS[label]
    form, features = draw_form(outputs), draw_features()
    nearest = np.einsum("rik,rjk->ijk", *factorise(form, rank - 1))
    joint = call(express(form, rank - 1), features)
    np.testing.assert_allclose(joint, bilinear(nearest, features), atol=1e-4)
    assert np.abs(joint - bilinear(form, features)).max() > 0.1


@pytest.mark.parametrize("label", ["tucker", "mutan", "block"])
def test_the_nonlinearities_are_all_that_parts_it_from_the_form(label):
    express, outputs, rank = FORMS[label]
    form, features = draw_form(outputs), draw_features()
    assert np.abs(call(express(form, rank), features) - bilinear(form, features)).max() > 0.1


def test_chunks_give_any_form_that_is_block_diagonal(plain):
    """Each half of the outputs has a form of its own, between a half of the image and a half of the text."""
    half, rows, size = TEXT // 2, IMAGE // 2, IMAGE // 2
    whole, form = draw_form(IMAGE), np.zeros((IMAGE, TEXT, IMAGE))
    module = make(fusion.BlockTerm, out_features=IMAGE, chunks=2, rank=half)
    copy_features(module, rows=[*range(half), *range(rows, rows + half)])
    left, right = [], []
    for chunk in range(2):
        i, j, k = (slice(chunk * step, (chunk + 1) * step) for step in (rows, half, size))
        form[i, j, k] = whole[i, j, k]
        first, second = factorise(form[i, j, k], half)
        left.append(first)
        right.append(np.pad(second, ((0, 0), (0, rows - half), (0, 0))))
    put(module.factors["image"], left)
    put(module.factors["text"], right)
    features = draw_features()
    np.testing.assert_allclose(call(module, features), bilinear(form, features), atol=1e-4)


# --- what contains multiplicative interaction


def test_multiplicative_is_a_linear_map_of_the_outer_product():
    """The map's weights of [1; h_1] ⊗ [1; h_2] are b, V, U and 𝐖, each in its place."""
    multiplicative, outer = (make(fusion.Multiplicative, out_features=5), make(fusion.OuterProduct, width=IMAGE))
    copy_features(outer)
    weights = np.zeros((IMAGE + 1, IMAGE + 1, 5))
    weights[0, 0] = array(multiplicative.first.bias)
    weights[1:, 0] = array(multiplicative.first.kernel)
    weights[0, 1 : TEXT + 1] = array(multiplicative.second.kernel)
    weights[1:, 1 : TEXT + 1] = array(multiplicative.product) / np.sqrt(IMAGE * TEXT)  # 𝐖, as it is trained
    features = draw_features()
    expected = call(multiplicative, features)
    np.testing.assert_allclose(call(outer, features) @ weights.reshape(-1, 5), expected, atol=1e-4)


# --- what a count sketch keeps

DRAWS, WIDTH = 6000, 16


def mean_inner_products(features):
    """Mean over sketches of the inner products of all pairs of a batch, its standard error, and the exact ones."""

    def inner_products(key):
        in_features = {name: h.shape[1] for name, h in features.items()}
        operator = fusion.CompactBilinear(in_features, out_features=WIDTH, rngs=nnx.Rngs(key))
        sketch = operator.sketch({name: jnp.float32(h) for name, h in features.items()})
        return sketch @ sketch.T

    keys = jax.random.split(jax.random.key(0), DRAWS)
    found = np.asarray(jit(jax.vmap(inner_products))(keys), np.float64)
    extended = [np.c_[np.ones(len(h)), h / (4 * np.sqrt(h.shape[1]))] for h in features.values()]
    exact = np.prod([x @ x.T for x in extended], axis=0)
    return found.mean(0), found.std(0) / np.sqrt(DRAWS), exact


def draw_large_features():
    """Draws features before which the 1 is not all."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(scale=6, size=(4, width)) for name, width in zip(TWO, (IMAGE, TEXT), strict=True)}


def test_sketches_keep_the_inner_products_of_outer_products_on_average():
    mean, error, exact = mean_inner_products(draw_large_features())
    assert (np.abs(mean - exact) < 4 * error).all()
    assert error.max() < 0.02 * np.abs(exact).max(), "few draws would agree with anything"


@pytest.mark.parametrize(
    "spoil",
    [lambda sketch: 1.02 * sketch, jnp.abs, lambda sketch: sketch.at[0].set(0)],
    ids=["another scale", "no signs", "no place for the 1"],
)
def test_sketches_of_another_kind_do_not(spoil, monkeypatch):
    draw = compact_bilinear.draw_sketch
    monkeypatch.setattr(compact_bilinear, "draw_sketch", lambda *arguments: spoil(draw(*arguments)))
    mean, error, exact = mean_inner_products(draw_large_features())
    assert (np.abs(mean - exact) > 4 * error).any()


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_circular_convolution_is_its_sum(width):
    rng = np.random.default_rng(width)
    x, y = rng.normal(size=(2, 3, width))
    expected = [
        [sum(a[j] * b[(k - j) % width] for j in range(width)) for k in range(width)] for a, b in zip(x, y, strict=True)
    ]
    found = compact_bilinear.circular_convolution(jnp.float32(x), jnp.float32(y))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_sketch_is_the_same_where_it_is_exported():
    module = make(fusion.CompactBilinear, out_features=9)
    features = {name: jnp.float32(h) for name, h in draw_features().items()}
    with portable():
        found = module(features)
        assert "fft" not in str(jax.make_jaxpr(lambda features: module(features))(features))
    np.testing.assert_allclose(found, module(features), atol=1e-4)
