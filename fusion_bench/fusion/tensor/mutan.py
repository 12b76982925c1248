"""MUTAN: Tucker fusion with a core of low rank."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("mutan", family="tensor", reference="MUTAN: Ben-younes et al. 2017, arXiv:1705.06676")
class Mutan(FeatureFusion):
    """A sum of products of projections: Σ_r ∏_m (z_m M_m^r), z_m = tanh(W_m h_m + b_m), M_m^r of width × out.

    The core tensor of `tucker` with each slice of this rank; the map after it is the head's first layer. Two modalities
    in the paper, as many as there are here. Parameters: Σ_m (d_m + 1) · width + M · rank · width · out. The paper: rank
    5, widths 310 and 510 with attention over the image; rank 10, widths 360 and 360 without; its dropout is left out
    here.
    """

    def __init__(self, blueprint: Blueprint, *, rank: int = 5, width: int = 32, out: int = 64):
        super().__init__(blueprint)
        self.projections = blueprint.factors(self.feature_widths, width, "mutan")
        self.factors = nnx.Dict(
            {
                name: blueprint.weight((rank, width, out), f"mutan/factor/{name}", fan_in=width)
                for name in self.feature_widths
            }
        )
        self.head = blueprint.head(out)

    def fuse(self, features: Features) -> Joint:
        def factor(name, h):
            z = jnp.tanh(self.projections[name](h))
            return jnp.einsum("bi,rik->brk", z, self.factors[name][...].astype(z.dtype))

        return product(factor(name, h) for name, h in features.items()).sum(1)
