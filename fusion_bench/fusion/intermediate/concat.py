"""Concatenation: the usual intermediate fusion."""

import jax.numpy as jnp

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register


@register(
    "concat",
    family="intermediate",
    reference="Ngiam et al., Multimodal Deep Learning, ICML 2011",
    canonical=True,
)
class Concat(FeatureFusion):
    """Features side by side: [h_1; …; h_M].

    Any number of modalities. Parameters: none; the head sees Σ_m d_m features.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__(blueprint)
        self.head = blueprint.head(sum(self.feature_widths.values()))

    def fuse(self, features: Features) -> Joint:
        return jnp.concatenate(list(features.values()), axis=-1)
