"""Sum of projected features."""

from fusion_bench.fusion.interface import Blueprint, FeatureFusion
from fusion_bench.fusion.registry import register


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

    def join(self, features):
        return sum(self.projections[name](h) for name, h in features.items())
