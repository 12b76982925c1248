"""Low-rank bilinear pooling by a Hadamard product."""

import jax.numpy as jnp

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("mlb", family="tensor", reference="MLB: Kim et al. 2016, arXiv:1610.04325")
class LowRankBilinear(FeatureFusion):
    """Product of bounded projections: ∏_m tanh(W_m h_m + b_m); the head's first layer is the paper's last map P.

    Two modalities in the paper, as many as there are here. Parameters: Σ_m (d_m + 1) · width. The paper's width
    is 1,200; its dropout is left out here.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64):
        super().__init__(blueprint)
        self.projections = blueprint.factors(self.feature_widths, width, "mlb")
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        return product(jnp.tanh(self.projections[name](h)) for name, h in features.items())
