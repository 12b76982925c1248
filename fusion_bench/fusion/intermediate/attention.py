"""Attention over modalities."""

import jax
import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register


@register(
    "attention", family="intermediate", reference="attentional fusion: Hori et al. 2017, arXiv:1701.03126"
)
class Attention(FeatureFusion):
    """Weighted sum of projected features: Σ_m α_m u_m, u_m = W_m h_m + b_m, α = softmax_m(v · tanh(u_m)).

    Any number of modalities. Parameters: Σ_m (d_m + 1) · width + width. In the paper the weights follow a decoder's
    state, anew for each word; here there is none. The width is a choice of ours.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64):
        super().__init__(blueprint)
        self.projections = blueprint.projections(self.feature_widths, width, "attention")
        self.score = nnx.Linear(
            width, 1, use_bias=False, dtype=blueprint.dtype, rngs=blueprint.rngs("attention/score")
        )
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        projected = jnp.stack([self.projections[name](h) for name, h in features.items()], axis=1)
        weights = jax.nn.softmax(self.score(jnp.tanh(projected)), axis=1)
        return (weights * projected).sum(1)
