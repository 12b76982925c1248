"""Low-rank bilinear pooling by a Hadamard product."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("mlb", reference="MLB: Kim et al. 2016, arXiv:1610.04325")
class LowRankBilinear(nnx.Module):
    """Product of bounded projections: ∏_m tanh(W_m h_m + b_m).

    The head's first layer takes the place of the paper's final linear map P. Two modalities in the paper, any number
    here. Parameters: Σ_m (d_m + 1) · out_features. The paper's width is 1,200, and its
    factors start around zero (`start="zero"`); its dropout is left out here.
    """

    def __init__(
        self, in_features: Sizes, *, out_features: int = 64, start: Start = "one", dtype: Dtype = None, rngs: nnx.Rngs
    ):
        self.projections = Factors(in_features, out_features, start=start, dtype=dtype, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        return product(jnp.tanh(z) for z in self.projections(features).values())
