"""Multiplicative interaction."""

import math

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Features, Joint, Sizes, normal_weight, pair
from fusion_bench.fusion.registry import register


@register("multiplicative", reference="multiplicative interactions: Jayakumar et al., ICLR 2020", pairs_only=True)
class Multiplicative(nnx.Module):
    """A full bilinear form for each output: h_1ᵀ 𝐖 h_2 + U h_1 + V h_2 + b.

    The trained parameter is 𝐖 √(d_1 d_2): Adam's steps do not shrink with the number of inputs, and would be too large
    for a sum over d_1 · d_2 products. Two modalities only, in alphabetical order. Parameters:
    (d_1 · d_2 + d_1 + d_2 + 1) · out_features. The default width is ours.
    """

    def __init__(self, in_features: Sizes, *, out_features: int = 16, dtype: Dtype = None, rngs: nnx.Rngs):
        self.modalities = pair(in_features)
        first, second = (in_features[name] for name in self.modalities)
        self.first = nnx.Linear(first, out_features, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(second, out_features, use_bias=False, dtype=dtype, rngs=rngs)
        # The product starts at a quarter of the linear part's size.
        self.product = normal_weight((first, second, out_features), fan_in=16, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        first, second = (features[name] for name in self.modalities)
        linear = self.first(first) + self.second(second)
        first, second, weights = (x.astype(linear.dtype) for x in (first, second, self.product[...]))
        product = jnp.einsum("bi,bj,ijk->bk", first, second, weights)
        return product / math.sqrt(first.shape[1] * second.shape[1]) + linear
