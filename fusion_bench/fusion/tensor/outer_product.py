"""Tensor fusion network: the outer product of all modalities' features."""

import functools
import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.fusion.layers import Dtype, Features, Joint, Projections, Sizes, widths_of
from fusion_bench.fusion.registry import register


@register("tensor", reference="TFN: Zadeh et al. 2017, arXiv:1707.07250", canonical=True, size="width")
class OuterProduct(nnx.Module):
    """Outer product of features with a 1 appended: vec([1; z_1] ⊗ … ⊗ [1; z_M]), z_m = W_m h_m + b_m.

    The 1 keeps every product of fewer modalities: the features alone, pairs, and so on. Any number of modalities.
    Parameters: Σ_m (d_m + 1) · width; the result has (width + 1)^M entries. `widths` sets each modality's own: the
    paper's are 128 for text (64 in its code) and 32 for vision and sound, and its z_m end in a ReLU. Each z_m starts
    with length 1 on average; with longer ones the many products would dominate the features for most of a short
    training.
    """

    def __init__(self, in_features: Sizes, *, width: int = 16, widths: str = "", dtype: Dtype = None, rngs: nnx.Rngs):
        of_each = widths_of(in_features, width, widths)
        self.projections = Projections(in_features, of_each, variance=None, dtype=dtype, rngs=rngs)
        self.out_features = math.prod(w + 1 for w in of_each.values())

    def __call__(self, features: Features) -> Joint:
        return functools.reduce(_outer, self._factors(features))

    def apply_kernel(
        self, features: Features, kernel: Inexact[Array, "{self.out_features} hidden"]
    ) -> Inexact[Array, "batch hidden"]:
        """Returns the product times a kernel, by the cheaper of two ways.

        The product is materialised if it is smaller than a kernel contracted with its first factor, width + 1 ≤ hidden;
        else the kernel is contracted with one factor after another.
        """
        first, *others = self._factors(features)
        size, hidden = first.shape[1], kernel.shape[1]
        kernel = kernel.astype(first.dtype)
        if size <= hidden:
            return functools.reduce(_outer, others, first) @ kernel
        joint = jnp.tensordot(first, kernel.reshape(size, *(x.shape[1] for x in others), hidden), axes=1)
        for factor in others:
            joint = jnp.einsum("bi,bi...->b...", factor, joint)
        return joint

    def _factors(self, features: Features) -> list[Inexact[Array, "batch _"]]:
        """Returns [1; z_m] of every modality."""
        projected = self.projections(features).values()
        return [jnp.concatenate([jnp.ones_like(z[:, :1]), z], axis=-1) for z in projected]


def _outer(a: Inexact[Array, "batch i"], b: Inexact[Array, "batch j"]) -> Inexact[Array, "batch i*j"]:
    return (a[:, :, None] * b[:, None, :]).reshape(a.shape[0], -1)
