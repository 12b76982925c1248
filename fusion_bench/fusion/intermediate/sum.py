"""Sum of projected features."""

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


@register(
    "sum", family="intermediate", reference="additive fusion; see Baltrušaitis et al. 2017, arXiv:1705.09406"
)
class Sum(FeatureFusion):
    """Sum of projected features: Σ_m W_m h_m + b_m.

    Any number of modalities. Parameters: Σ_m (d_m + 1) · width. The width is a choice of ours.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64):
        super().__init__(blueprint)
        self.projections = blueprint.projections(self.feature_widths, width, "sum")
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        return total(self.projections[name](h) for name, h in features.items())
