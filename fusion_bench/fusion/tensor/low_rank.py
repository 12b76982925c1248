"""Low-rank multimodal fusion: the tensor product's linear map, factorised, without the product."""

import math

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("low-rank", family="tensor", reference="LMF: Liu et al. 2018, arXiv:1806.00064")
class LowRank(FeatureFusion):
    """A sum of rank-one terms: Σ_r w_r ∏_m F_m^r [1; h_m] + b, with F_m^r of width × (d_m + 1).

    A linear map of the outer product of all [1; h_m] whose tensor has this rank; a factor's weights of the 1 are the
    bias of its linear map. Any number of modalities.
    Parameters: rank · width · Σ_m (d_m + 1) + rank + width. The paper searches ranks from 1 to 16.
    """

    def __init__(self, blueprint: Blueprint, *, rank: int = 4, width: int = 64):
        super().__init__(blueprint)
        self.factors = blueprint.factors(self.feature_widths, rank * width, "low-rank")
        self.rank = rank
        self.weights = nnx.Param(jnp.full((rank,), 1 / math.sqrt(rank), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,)))
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        def factor(name, h):
            return self.factors[name](h).reshape(len(h), self.rank, -1)

        terms = product(factor(name, h) for name, h in features.items())
        weights, bias = (variable[...].astype(terms.dtype) for variable in (self.weights, self.bias))
        return jnp.einsum("brk,r->bk", terms, weights) + bias
