"""A small transformer encoder over tokens of any modality (Vaswani et al. 2017, pre-norm)."""

from collections.abc import Callable
from typing import Literal

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Inexact

Tokens = Inexact[Array, "batch token feature"]
Order = Literal["pre", "post"]
"""Place of a block's normalisations: its inputs, or its sums."""


class TransformerBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); a token attends to the tokens that are not masked.

    The MLP has `expansion` times the width. With `order="post"` the sums are normalised: norm(x + attention(x)).
    """

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        expansion: int = 2,
        order: Order = "pre",
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.order = order
        self.norm_attention = nnx.LayerNorm(features, dtype=dtype, rngs=rngs)
        self.attention = make_attention(features, heads, dtype=dtype, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(features, dtype=dtype, rngs=rngs)
        self.expand = nnx.Linear(features, expansion * features, dtype=dtype, rngs=rngs)
        self.contract = nnx.Linear(expansion * features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, mask: Bool[Array, "batch token"]) -> Tokens:
        visible = mask[:, None, None, :]
        if self.order == "post":
            x = self.norm_attention(x + self.attention(x, mask=visible))
            return self.norm_mlp(x + self._mlp(x))
        x = x + self.attention(self.norm_attention(x), mask=visible)
        return x + self._mlp(self.norm_mlp(x))

    def _mlp(self, x: Tokens) -> Tokens:
        return self.contract(jax.nn.gelu(self.expand(x)))


class CrossBlock(nnx.Module):
    """x + attention(norm(x), norm(source)), then x + mlp(norm(x)); attends to the source's tokens, not to its own.

    The MLP has `expansion` times the width. Queries and source have normalisations of their own, or share one.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        expansion: int = 2,
        activation: Callable[[Tokens], Tokens] = jax.nn.gelu,
        shares_norm: bool = False,
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.norm_attention = nnx.LayerNorm(features, dtype=dtype, rngs=rngs)
        self.norm_source = None if shares_norm else nnx.LayerNorm(features, dtype=dtype, rngs=rngs)
        self.attention = make_attention(features, heads, dtype=dtype, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(features, dtype=dtype, rngs=rngs)
        self.expand = nnx.Linear(features, expansion * features, dtype=dtype, rngs=rngs)
        self.contract = nnx.Linear(expansion * features, features, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Tokens, source: Inexact[Array, "batch other feature"], source_mask: Bool[Array, "batch other"]
    ) -> Tokens:
        norm_source = self.norm_source or self.norm_attention
        read = self.attention(self.norm_attention(x), norm_source(source), mask=source_mask[:, None, None, :])
        x = x + read * source_mask.any(1)[:, None, None]  # zero if all source tokens are masked
        return x + self.contract(self.activation(self.expand(self.norm_mlp(x))))


def make_attention(features: int, heads: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs) -> nnx.MultiHeadAttention:
    """Returns multi-head attention; raises ValueError if the width is not divisible by the number of heads."""
    if features % heads:
        raise ValueError(f"a width of {features} cannot be divided among {heads} heads")
    return nnx.MultiHeadAttention(heads, features, dtype=dtype, decode=False, rngs=rngs)


class Transformer(nnx.Module):
    """Blocks one after another, and a final normalisation unless each sum is normalised."""

    def __init__(
        self,
        features: int,
        heads: int,
        layers: int,
        *,
        expansion: int = 2,
        order: Order = "pre",
        dtype: DTypeLike | None,
        rngs: nnx.Rngs,
    ):
        def block() -> TransformerBlock:
            return TransformerBlock(features, heads, expansion=expansion, order=order, dtype=dtype, rngs=rngs)

        self.blocks = nnx.List([block() for _ in range(layers)])
        self.norm = nnx.LayerNorm(features, dtype=dtype, rngs=rngs) if order == "pre" else None

    def __call__(self, x: Tokens, mask: Bool[Array, "batch token"]) -> Tokens:
        for block in self.blocks:
            x = block(x, mask)
        return x if self.norm is None else self.norm(x)
