"""Low-rank multimodal fusion: the tensor product's linear map, factorised, without the product."""

import math

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("low-rank", reference="LMF: Liu et al. 2018, arXiv:1806.00064")
class LowRank(nnx.Module):
    """A sum of rank-one terms: Σ_r w_r ∏_m F_m^r [1; h_m] + b, with F_m^r of out_features × (d_m + 1).

    This is a linear map of the outer product of all [1; h_m] whose weight tensor has this rank; a factor's weights of
    the 1 are the bias of its linear map. w is in the authors' code, not in the paper. Any number of modalities.
    Parameters: rank · out_features · Σ_m (d_m + 1) + rank + out_features. The paper searches ranks from 1 to 16, and
    factors start around zero there (`start="zero"`).
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        rank: int = 4,
        out_features: int = 64,
        start: Start = "one",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.factors = Factors(in_features, rank * out_features, start=start, dtype=dtype, rngs=rngs)
        self.weights = nnx.Param(jnp.full((rank,), 1 / math.sqrt(rank), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32))
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        terms = product(self.factors(features).values())
        terms = terms.reshape(terms.shape[0], -1, self.out_features)
        weights, bias = (variable[...].astype(terms.dtype) for variable in (self.weights, self.bias))
        return jnp.einsum("brk,r->bk", terms, weights) + bias
