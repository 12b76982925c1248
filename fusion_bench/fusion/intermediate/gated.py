"""One modality gates the other."""

import jax
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Features, Joint, Projections, Sizes, pair
from fusion_bench.fusion.registry import register


@register("gated", reference="gated: Kiela et al. 2018, arXiv:1802.02892", pairs_only=True)
class Gated(nnx.Module):
    """One modality gates the other: σ(W_2 h_2 + b_2) ⊙ (W_1 h_1 + b_1), two modalities in alphabetical order.

    The later name gates the earlier one, so text gates image; with `swap` image gates text. The biases and the default
    width are ours. Two modalities only. Parameters: Σ_m (d_m + 1) · out_features.
    """

    def __init__(
        self, in_features: Sizes, *, out_features: int = 64, swap: bool = False, dtype: Dtype = None, rngs: nnx.Rngs
    ):
        self.gated, self.gate = reversed(pair(in_features)) if swap else pair(in_features)
        self.projections = Projections(in_features, out_features, dtype=dtype, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        z = self.projections(features)
        return jax.nn.sigmoid(z[self.gate]) * z[self.gated]
