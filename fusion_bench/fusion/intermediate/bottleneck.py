"""Attention bottlenecks: modalities exchange through a few shared tokens alone."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import Joint, Masks, TokenFusion, Tokens
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.encoders import HEADS
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.transformer import TransformerBlock


@register("bottleneck", family="intermediate", reference="MBT: Nagrani et al. 2021, arXiv:2107.00135")
class Bottleneck(TokenFusion):
    """Modalities exchange through B shared tokens b: [H_m; b_m] ← block_m([H_m; b]), then b ← mean_m b_m.

    Each modality has a transformer of its own; what it knows of another has passed through b. The joint feature is
    [mean(H_1); …; mean(H_M)]. Any number of modalities. Parameters with width w: Σ_m (d_m + 1) · w + B · w + M · layers
    · (8 w² + 11 w). The paper's B is 4, in the last 4 of 12 layers of 12 heads, and the scores of each modality's class
    token are averaged; here means of tokens go to one head. With one layer nothing is exchanged: what b has read
    reaches a modality in the next.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        width: int = 64,
        layers: int = 2,
        bottlenecks: int = 4,
        heads: int = HEADS,
    ):
        super().__init__(blueprint)
        self.projections = blueprint.projections(self.token_widths, width, "bottleneck")
        self.shared = blueprint.weight((bottlenecks, width), "bottleneck/shared", fan_in=1)
        self.blocks = nnx.List(
            [
                nnx.Dict(
                    {
                        name: TransformerBlock(
                            width, heads, dtype=blueprint.dtype,
                            rngs=blueprint.rngs(f"bottleneck/{name}/{layer}"),
                        )
                        for name in self.encoders
                    }
                )
                for layer in range(layers)
            ]
        )  # fmt: skip
        self.head = blueprint.head(width * len(self.encoders))

    def fuse(self, tokens: Tokens, masks: Masks) -> Joint:
        streams = {name: self.projections[name](x) for name, x in tokens.items()}
        first = next(iter(streams.values()))
        shared = jnp.broadcast_to(self.shared[...].astype(first.dtype), (first.shape[0], *self.shared.shape))
        visible = jnp.ones(shared.shape[:2], bool)
        for blocks in self.blocks:
            read = []
            for name, stream in streams.items():
                both = blocks[name](
                    jnp.concatenate([stream, shared], axis=1), jnp.concatenate([masks[name], visible], axis=1)
                )
                streams[name] = both[:, : stream.shape[1]]
                read.append(both[:, stream.shape[1] :])
            shared = jnp.stack(read).mean(0)
        return jnp.concatenate([masked_mean(x, masks[name]) for name, x in streams.items()], axis=-1)
