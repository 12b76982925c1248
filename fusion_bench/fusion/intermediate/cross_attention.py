"""Cross-attention between all pairs of modalities."""

import itertools

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import Joint, Masks, TokenFusion, Tokens
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.encoders import HEADS
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.transformer import CrossBlock


@register("cross-attention", family="intermediate", reference="MulT: Tsai et al. 2019, arXiv:1906.00295")
class CrossAttention(TokenFusion):
    """Each modality reads each other one: concat over pairs n ≠ m of mean(cross_{n→m}(P_m H_m, P_n H_n)).

    P_m maps tokens to one width; in a cross block the queries are modality m's, keys and values modality n's. Any
    number of modalities, M (M - 1) pairs. Parameters with width w: Σ_m (d_m + 1) · w + M (M - 1) · layers · (8 w² + 13
    w). The paper has 4 layers of width 40 with 10 heads, ReLU, a second transformer over what each modality has read,
    and takes the last token; here there is GELU, as in every transformer here, no second one, and a mean over the
    tokens, which have no last.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64, layers: int = 1, heads: int = HEADS):
        super().__init__(blueprint)
        self.projections = blueprint.projections(self.token_widths, width, "cross-attention")
        self.pairs = tuple(itertools.permutations(self.encoders, 2))
        self.blocks = nnx.Dict(
            {
                f"{source} to {target}": nnx.List(
                    [
                        CrossBlock(
                            width, heads, dtype=blueprint.dtype,
                            rngs=blueprint.rngs(f"cross-attention/{source} to {target}/{layer}"),
                        )
                        for layer in range(layers)
                    ]
                )
                for target, source in self.pairs
            }
        )  # fmt: skip
        self.head = blueprint.head(width * len(self.pairs))

    def fuse(self, tokens: Tokens, masks: Masks) -> Joint:
        projected = {name: self.projections[name](x) for name, x in tokens.items()}
        pooled = []
        for target, source in self.pairs:
            x = projected[target]
            for block in self.blocks[f"{source} to {target}"]:
                x = block(x, projected[source], masks[source])
            pooled.append(masked_mean(x, masks[target]))
        return jnp.concatenate(pooled, axis=-1)
