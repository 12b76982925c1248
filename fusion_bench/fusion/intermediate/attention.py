"""Attention over modalities."""

import jax
import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Features, Joint, Projections, Sizes
from fusion_bench.fusion.registry import register


@register("attention", reference="attentional fusion: Hori et al. 2017, arXiv:1701.03126")
class Attention(nnx.Module):
    """Weighted sum of projected features: Σ_m α_m u_m, u_m = W_m h_m + b_m, α = softmax_m(v · tanh(u_m)).

    Any number of modalities. Parameters: Σ_m (d_m + 1) · out_features + out_features. In the paper the weights come
    from a second map of h_m, V_m h_m + c_m in place of u_m (`shared=False`, Σ_m (d_m + 1) · out_features parameters
    more), and from a decoder's state at each word, which is left out here. The default width is ours.
    """

    def __init__(
        self, in_features: Sizes, *, out_features: int = 64, shared: bool = True, dtype: Dtype = None, rngs: nnx.Rngs
    ):
        self.projections = Projections(in_features, out_features, dtype=dtype, rngs=rngs)
        self.scored = self.projections if shared else Projections(in_features, out_features, dtype=dtype, rngs=rngs)
        self.score = nnx.Linear(out_features, 1, use_bias=False, dtype=dtype, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        projected = jnp.stack([*self.projections(features).values()], axis=1)
        scored = projected if self.scored is self.projections else jnp.stack([*self.scored(features).values()], axis=1)
        weights = jax.nn.softmax(self.score(jnp.tanh(scored)), axis=1)
        return (weights * projected).sum(1)
