"""Block-term fusion: features in chunks, each fused with a low-rank tensor."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, normal_weight
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product


@register("block", reference="BLOCK: Ben-younes et al. 2019, arXiv:1902.00038")
class BlockTerm(nnx.Module):
    """A block-term decomposition: chunk c of the result is normalise(Σ_r ∏_m (z_m^c M_m^{c,r})).

    z_m = W_m h_m + b_m is as wide as the result and cut into as many chunks; normalise is a signed square root and a
    division by the length. Two modalities in the paper, any number here. Parameters: Σ_m (d_m + 1) · out_features + M ·
    rank · out_features² / chunks. The authors' code has width 1,600, 20 chunks and rank 15, biases of z_m^c M_m^{c,r}
    and dropout; the last two are left out here. Raises ValueError if the width is not divisible by the chunks.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        out_features: int = 64,
        chunks: int = 4,
        rank: int = 4,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        if out_features % chunks:
            raise ValueError(f"out_features={out_features} is not divisible by {chunks} chunks")
        self.chunks, size = chunks, out_features // chunks
        self.projections = Factors(in_features, out_features, dtype=dtype, rngs=rngs)
        shape = (chunks, rank, size, size)
        self.factors = nnx.Dict({name: normal_weight(shape, fan_in=size, rngs=rngs) for name in self.projections})
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        def factor(name, z):
            z = z.reshape(z.shape[0], self.chunks, -1)
            return jnp.einsum("bci,crik->bcrk", z, self.factors[name][...].astype(z.dtype))

        joint = product(factor(name, z) for name, z in self.projections(features).items()).sum(2)
        return power_normalize(joint).reshape(joint.shape[0], -1)
