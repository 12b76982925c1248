"""Layers of encoders and fusion operators, beyond Flax's own."""

import functools
import math
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Inexact

ROOT_EPSILON = 1e-12


class Head(nnx.Module):
    """From features to logits: one hidden layer with ReLU. The same in every strategy."""

    def __init__(self, in_features: int, hidden: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(in_features, hidden, dtype=dtype, rngs=rngs)
        self.scores = nnx.Linear(hidden, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, features: Inexact[Array, "batch feature"]) -> Float[Array, "batch class"]:
        """Returns logits, in float32."""
        return self.from_hidden(self.hidden(features))

    def from_hidden(self, hidden: Inexact[Array, "batch hidden"]) -> Float[Array, "batch class"]:
        """Returns logits from the hidden layer's values before the ReLU."""
        return self.scores(jax.nn.relu(hidden)).astype(jnp.float32)


class TemporalConvolution(nnx.Module):
    """relu(W [x_{t-d}; x_t; x_{t+d}] + b) for dilation d; a step that is masked or outside the sequence is zero.

    As one matrix product: XLA's convolution is slow in a loop on a CPU.
    """

    def __init__(self, in_features: int, out_features: int, *, dilation: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dilation = dilation
        self.linear = nnx.Linear(3 * in_features, out_features, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Inexact[Array, "batch token in_feature"], mask: Bool[Array, "batch token"] | None
    ) -> Inexact[Array, "batch token feature"]:
        if mask is not None:
            x = jnp.where(mask[:, :, None], x, jnp.zeros_like(x))
        length, reach = x.shape[1], self.dilation
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        seen = [padded[:, start : start + length] for start in (0, reach, 2 * reach)]
        return jax.nn.relu(self.linear(jnp.concatenate(seen, axis=-1)))


def masked_mean(
    tokens: Inexact[Array, "batch token feature"], mask: Bool[Array, "batch token"] | None
) -> Inexact[Array, "batch feature"]:
    """Mean over the tokens where `mask` is True, or zero if there are none; over all tokens without a mask."""
    if mask is None:
        return tokens.mean(1)
    weights = mask.astype(tokens.dtype)[:, :, None]
    return (tokens * weights).sum(1) / jnp.maximum(weights.sum(1), 1)


def product(factors: Iterable[Inexact[Array, "..."]]) -> Inexact[Array, "..."]:
    """Element-wise product of arrays of one shape."""
    return functools.reduce(operator.mul, factors)


def total(terms: Iterable[Inexact[Array, "..."]]) -> Inexact[Array, "..."]:
    """Element-wise sum of arrays of one shape."""
    return functools.reduce(operator.add, terms)


def space_to_depth(
    x: Inexact[Array, "batch height width channel"], size: int
) -> Inexact[Array, "batch rows columns feature"]:
    """Lays each size×size patch of pixels along the channels; pads with zeros below and to the right."""
    batch, height, width, channel = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % size), (0, -width % size), (0, 0)))
    rows, columns = x.shape[1] // size, x.shape[2] // size
    x = x.reshape(batch, rows, size, columns, size, channel).swapaxes(2, 3)
    return x.reshape(batch, rows, columns, size * size * channel)


def power_normalize(x: Inexact[Array, "batch *_ feature"]) -> Inexact[Array, "batch *_ feature"]:
    """Signed square root, then division by the Euclidean length over the last axis; zeros stay zeros."""
    # The gradient of a square root at zero is infinite, so both roots start just above it.
    root = jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + ROOT_EPSILON) - math.sqrt(ROOT_EPSILON))
    return root / jnp.sqrt((root**2).sum(-1, keepdims=True) + ROOT_EPSILON)


def normalize(x: Inexact[Array, "..."], *, axis: int) -> Inexact[Array, "..."]:
    """Divides by the Euclidean length over one axis; zeros stay zeros, with a finite gradient."""
    return x / jnp.sqrt((x**2).sum(axis, keepdims=True) + ROOT_EPSILON)
