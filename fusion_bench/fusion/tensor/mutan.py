"""MUTAN: Tucker fusion with a core of low rank."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, normal_weight
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("mutan", reference="MUTAN: Ben-younes et al. 2017, arXiv:1705.06676", size="width")
class Mutan(nnx.Module):
    """A sum of products of projections: Σ_r ∏_m (z_m M_m^r), z_m = tanh(W_m h_m + b_m), M_m^r of width × out_features.

    Each slice of the core tensor of `tucker` has this rank; the head's first layer takes the place of the paper's final
    linear map. Two modalities in the paper, any number here. Parameters: Σ_m (d_m + 1) · width + M · rank · width ·
    out_features. The paper has rank 5 and widths 310 and 620 with attention over the image, rank 10 and widths 360 and
    360 without. Its dropout, and the biases of z_m M_m^r in the authors' code, are left out here.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        rank: int = 5,
        width: int = 32,
        out_features: int = 64,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.projections = Factors(in_features, width, dtype=dtype, rngs=rngs)
        shape = (rank, width, out_features)
        self.factors = nnx.Dict({name: normal_weight(shape, fan_in=width, rngs=rngs) for name in self.projections})
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        projected = {name: jnp.tanh(z) for name, z in self.projections(features).items()}
        return product(
            jnp.einsum("bi,rik->brk", z, self.factors[name][...].astype(z.dtype)) for name, z in projected.items()
        ).sum(1)
