"""Multimodal factorised bilinear pooling."""

from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product


@register("mfb", reference="MFB: Yu et al. 2017, arXiv:1708.01471")
class FactorizedBilinear(nnx.Module):
    """Products of projections, summed in groups of k: normalise(SumPool_k(∏_m (W_m h_m + b_m))).

    Normalise is a signed square root and a division by the length. Two modalities in the paper, any number here.
    Parameters: Σ_m (d_m + 1) · k · out_features. The paper has k = 5, width 1,000, factors that start around zero
    (`start="zero"`), and dropout after the product, which is left out here.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        k: int = 5,
        out_features: int = 64,
        start: Start = "one",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.projections = Factors(in_features, k * out_features, start=start, dtype=dtype, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        expanded = product(self.projections(features).values())
        return power_normalize(sum_pool(expanded, self.out_features))


def sum_pool(x: Inexact[Array, "batch _"], out_features: int) -> Inexact[Array, "batch {out_features}"]:
    """Sums groups of neighbours, all of one size."""
    return x.reshape(x.shape[0], out_features, -1).sum(-1)
