"""Tucker fusion: a full core tensor between projected features."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, normal_weight
from fusion_bench.fusion.registry import register


@register("tucker", reference="Tucker form of MUTAN: Ben-younes et al. 2017, arXiv:1705.06676", size="width")
class Tucker(nnx.Module):
    """A core tensor between bounded projections: 𝐂 ×_1 z_1 … ×_M z_M, z_m = tanh(W_m h_m + b_m).

    𝐂 has width^M · out_features entries; the head's first layer takes the place of the paper's final linear map. Two
    modalities in the paper, any number here. Parameters: Σ_m (d_m + 1) · width + width^M · out_features. The paper
    factorises the core instead; the authors' code gives the core a bias.
    """

    def __init__(
        self, in_features: Sizes, *, width: int = 16, out_features: int = 64, dtype: Dtype = None, rngs: nnx.Rngs
    ):
        self.projections = Factors(in_features, width, dtype=dtype, rngs=rngs)
        shape = (width,) * len(in_features)
        self.core = normal_weight((*shape, out_features), fan_in=width ** len(shape), rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        first, *others = (jnp.tanh(z) for z in self.projections(features).values())
        # One modality at a time: [batch, remaining axes of the core].
        joint = jnp.tensordot(first, self.core[...].astype(first.dtype), axes=1)
        for z in others:
            joint = jnp.einsum("bi,bi...->b...", z, joint)
        return joint
