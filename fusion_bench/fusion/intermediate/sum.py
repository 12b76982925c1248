"""Sum of projected features."""

from flax import nnx

from fusion_bench.fusion.layers import Dtype, Features, Joint, Projections, Sizes
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


@register("sum", reference="additive fusion; see Baltrušaitis et al. 2017, arXiv:1705.09406")
class Sum(nnx.Module):
    """Sum of projected features: Σ_m W_m h_m + b_m.

    Any number of modalities. Parameters: Σ_m (d_m + 1) · out_features. The default width is ours.
    """

    def __init__(self, in_features: Sizes, *, out_features: int = 64, dtype: Dtype = None, rngs: nnx.Rngs):
        self.projections = Projections(in_features, out_features, dtype=dtype, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        return total(self.projections(features).values())
