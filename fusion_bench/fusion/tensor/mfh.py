"""MFB in a cascade."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start
from fusion_bench.fusion.registry import register
from fusion_bench.fusion.tensor.mfb import sum_pool
from fusion_bench.models.layers import power_normalize, product


@register("mfh", reference="MFH: Yu et al. 2018, arXiv:1708.03619", size="width")
class FactorizedHighOrder(nnx.Module):
    """Blocks of `mfb`, each multiplied by the product before it: e_i = e_{i-1} ⊙ ∏_m (W_m^i h_m + b_m^i), e_0 = 1.

    The result is [normalise(SumPool_k(e_1)); …; normalise(SumPool_k(e_p))]. Two modalities in the paper, any number
    here. Parameters: p · Σ_m (d_m + 1) · k · width. The paper has p = 2, k = 5, width 1,000, factors that start
    around zero (`start="zero"`), and dropout after each product, which is left out here.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        p: int = 2,
        k: int = 5,
        width: int = 64,
        start: Start = "one",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.blocks = nnx.List([Factors(in_features, k * width, start=start, dtype=dtype, rngs=rngs) for _ in range(p)])
        self.width = width
        self.out_features = p * width

    def __call__(self, features: Features) -> Joint:
        expanded, pooled = 1.0, []
        for projections in self.blocks:
            expanded = expanded * product(projections(features).values())
            pooled.append(power_normalize(sum_pool(expanded, self.width)))
        return jnp.concatenate(pooled, axis=-1)
