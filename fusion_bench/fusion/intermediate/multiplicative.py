"""Multiplicative interaction."""

import jax.numpy as jnp

from fusion_bench.fusion.interface import Blueprint, FeatureFusion
from fusion_bench.fusion.registry import register


@register(
    "multiplicative",
    family="intermediate",
    reference="multiplicative interactions: Jayakumar et al., ICLR 2020",
    pairs_only=True,
)
class Multiplicative(FeatureFusion):
    """A full bilinear form for each output: h_1ᵀ 𝐖 h_2 + U h_1 + V h_2 + b.

    Two modalities only. Parameters: (d_1 · d_2 + d_1 + d_2 + 1) · width.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 16):
        super().__init__(blueprint)
        self.names = blueprint.modalities
        first, second = (self.feature_widths[name] for name in self.names)
        # U and V are one map each; b is U's.
        self.linear = blueprint.projections({self.names[0]: first}, width, "multiplicative")
        self.linear_second = blueprint.projections(
            {self.names[1]: second}, width, "multiplicative", bias=None
        )
        # The product starts at a quarter of the linear part's size.
        self.product = blueprint.weight(
            (first, second, width), "multiplicative/product", fan_in=16 * first * second
        )
        self.head = blueprint.head(width)

    def join(self, features):
        first, second = (features[name] for name in self.names)
        product = jnp.einsum("bi,bj,ijk->bk", first, second, self.product[...].astype(first.dtype))
        return product + self.linear[self.names[0]](first) + self.linear_second[self.names[1]](second)
