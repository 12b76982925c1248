"""Multimodal factorised bilinear pooling."""

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product


@register("mfb", family="tensor", reference="MFB: Yu et al. 2017, arXiv:1708.01471")
class FactorizedBilinear(FeatureFusion):
    """Products of projections, summed in groups of k: normalise(SumPool_k(∏_m (W_m h_m + b_m))).

    Normalised by a signed square root and by its length. Two modalities in the paper, as many as there are here.
    Parameters: Σ_m (d_m + 1) · k · width. The paper: k = 5, width 1,000, and dropout after the product, which is
    left out here.
    """

    def __init__(self, blueprint: Blueprint, *, k: int = 5, width: int = 64):
        super().__init__(blueprint)
        self.k = k
        self.projections = blueprint.factors(self.feature_widths, k * width, "mfb")
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        expanded = product(self.projections[name](h) for name, h in features.items())
        return power_normalize(sum_pool(expanded, self.k))


def sum_pool(x, k):
    """Sums neighbours in groups of k: [batch, k · width] → [batch, width]."""
    return x.reshape(x.shape[0], -1, k).sum(-1)
