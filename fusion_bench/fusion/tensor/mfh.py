"""MFB in a cascade."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.fusion.tensor.mfb import sum_pool
from fusion_bench.models.layers import power_normalize, product


@register("mfh", family="tensor", reference="MFH: Yu et al. 2018, arXiv:1708.03619")
class FactorizedHighOrder(FeatureFusion):
    """Blocks of `mfb`, each multiplied by the product before it: e_i = e_{i-1} ⊙ ∏_m (W_m^i h_m + b_m^i), e_0 = 1.

    The joint feature is [normalise(SumPool_k(e_1)); …; normalise(SumPool_k(e_p))]. Two modalities in the paper, as
    many as there are here. Parameters: p · Σ_m (d_m + 1) · k · width. The paper: p = 2, k = 5, width 1,000, and dropout
    after each product, which is left out here.
    """

    def __init__(self, blueprint: Blueprint, *, p: int = 2, k: int = 5, width: int = 64):
        super().__init__(blueprint)
        self.k = k
        self.blocks = nnx.List(
            [blueprint.factors(self.feature_widths, k * width, f"mfh/{i}") for i in range(p)]
        )
        self.head = blueprint.head(p * width)

    def fuse(self, features: Features) -> Joint:
        expanded, pooled = 1, []
        for projections in self.blocks:
            expanded = expanded * product(projections[name](h) for name, h in features.items())
            pooled.append(power_normalize(sum_pool(expanded, self.k)))
        return jnp.concatenate(pooled, axis=-1)
