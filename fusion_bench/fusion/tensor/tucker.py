"""Tucker fusion: a full core tensor between projected features."""

import jax.numpy as jnp

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register


@register(
    "tucker", family="tensor", reference="Tucker form of MUTAN: Ben-younes et al. 2017, arXiv:1705.06676"
)
class Tucker(FeatureFusion):
    """A core tensor between bounded projections: 𝐂 ×_1 z_1 … ×_M z_M, z_m = tanh(W_m h_m + b_m).

    𝐂 has width^M · out entries; the map after it is the head's first layer. Two modalities in the paper, as many as
    there are here. Parameters: Σ_m (d_m + 1) · width + width^M · out. The paper factorises the core instead.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 16, out: int = 64):
        super().__init__(blueprint)
        count = len(self.feature_widths)
        self.projections = blueprint.factors(self.feature_widths, width, "tucker")
        self.core = blueprint.weight((width,) * count + (out,), "tucker/core", fan_in=width**count)
        self.head = blueprint.head(out)

    def fuse(self, features: Features) -> Joint:
        # One modality at a time: [batch, remaining axes of the core].
        names = list(features)
        first = jnp.tanh(self.projections[names[0]](features[names[0]]))
        joint = jnp.tensordot(first, self.core[...].astype(first.dtype), axes=1)
        for name in names[1:]:
            joint = jnp.einsum("bi,bi...->b...", jnp.tanh(self.projections[name](features[name])), joint)
        return joint
