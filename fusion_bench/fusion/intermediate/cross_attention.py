"""Cross-attention between all pairs of modalities."""

import itertools
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Joint, Masks, Projections, Sizes, Tokens
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.transformer import CrossBlock


@register(
    "cross-attention", reference="MulT: Tsai et al. 2019, arXiv:1906.00295", reads="tokens", size="width", version=2
)
class CrossAttention(nnx.Module):
    """Each modality attends to each other one: concat over pairs n ≠ m of mean(cross_{n→m}(P_m H_m, P_n H_n)).

    P_m maps tokens to one width; in a cross block the queries come from modality m, keys and values from modality n.
    Any number of modalities, M (M - 1) pairs. Parameters with width w: Σ_m (d_m + 1) · w + M (M - 1) · layers · (8 w² +
    13 w). This is the core of MulT in the blocks of every transformer here, with MLPs of 2 w and GELU, and the mean
    over the tokens; `mult` is the published form.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        width: int = 64,
        layers: int = 1,
        heads: int = 4,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.projections = Projections(in_features, width, dtype=dtype, rngs=rngs)
        self.pairs = tuple(itertools.permutations(self.projections, 2))

        def blocks() -> Any:
            return nnx.List([CrossBlock(width, heads, dtype=dtype, rngs=rngs) for _ in range(layers)])

        self.blocks = nnx.Dict({f"{source} to {target}": blocks() for target, source in self.pairs})
        self.out_features = width * len(self.pairs)

    def __call__(self, tokens: Tokens, masks: Masks) -> Joint:
        projected = self.projections(tokens)
        pooled = []
        for target, source in self.pairs:
            x = projected[target]
            for block in self.blocks[f"{source} to {target}"]:
                x = block(x, projected[source], masks[source])
            pooled.append(masked_mean(x, masks[target]))
        return jnp.concatenate(pooled, axis=-1)
