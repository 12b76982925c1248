"""One modality gates the other."""

import jax

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register


@register(
    "gated", family="intermediate", reference="gated: Kiela et al. 2018, arXiv:1802.02892", pairs_only=True
)
class Gated(FeatureFusion):
    """One modality gates the other: σ(W_2 h_2 + b_2) ⊙ (W_1 h_1 + b_1), two modalities in alphabetical order.

    So a text gates an image, the later name the earlier; with `swap` the image gates the text. The biases and the
    width are ours. Two modalities only. Parameters: Σ_m (d_m + 1) · width.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64, swap: bool = False):
        super().__init__(blueprint)
        self.gated, self.gate = reversed(blueprint.modalities) if swap else blueprint.modalities
        self.projections = blueprint.projections(self.feature_widths, width, "gated")
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        gate = jax.nn.sigmoid(self.projections[self.gate](features[self.gate]))
        return gate * self.projections[self.gated](features[self.gated])
