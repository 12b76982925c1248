"""Block-term fusion: the features in chunks, each chunk joined with a low rank."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.errors import UserError
from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product


@register("block", family="tensor", reference="BLOCK: Ben-younes et al. 2019, arXiv:1902.00038")
class Block(FeatureFusion):
    """A block-term decomposition: chunk c of the result is normalise(Σ_r ∏_m (z_m^c M_m^{c,r})).

    z_m = W_m h_m + b_m, cut into as many chunks; normalised by a signed square root and by its length. Two modalities
    in the paper, as many as there are here. Parameters: Σ_m (d_m + 1) · width + M · rank · width² / chunks. The paper:
    width 1,600, 20 chunks, rank 15; its dropout is left out here.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64, chunks: int = 4, rank: int = 4):
        super().__init__(blueprint)
        if width % chunks:
            raise UserError(f"block cuts its width into equal chunks; {width} is not divisible by {chunks}")
        self.chunks, size = chunks, width // chunks
        self.projections = blueprint.factors(self.feature_widths, width, "block")
        self.factors = nnx.Dict(
            {
                name: blueprint.weight((chunks, rank, size, size), f"block/factor/{name}", fan_in=size)
                for name in self.feature_widths
            }
        )
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        def factor(name, h):
            z = self.projections[name](h)
            z = z.reshape(z.shape[0], self.chunks, -1)
            return jnp.einsum("bci,crik->bcrk", z, self.factors[name][...].astype(z.dtype))

        joint = product(factor(name, h) for name, h in features.items()).sum(2)
        return power_normalize(joint).reshape(joint.shape[0], -1)
