"""Attention bottlenecks: modalities exchange information only through a few shared tokens."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fields import Positive
from fusion_bench.fusion.layers import Dtype, Joint, Masks, Projections, Sizes, Tokens
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.transformer import TransformerBlock


@register("bottleneck", reference="MBT: Nagrani et al. 2021, arXiv:2107.00135", reads="tokens", size="width", version=2)
class Bottleneck(nnx.Module):
    """Modalities exchange through B shared tokens b: [H_m; b_m] ← block_m([H_m; b]), then b ← mean_m b_m.

    Each modality has its own transformer, and reads the others only through b. The result is [mean(H_1); …; mean(H_M)].
    Any number of modalities. Parameters with width w: Σ_m (d_m + 1) · w + B · w + M · layers · (8 w² + 11 w). The paper
    has B = 4 in the last 4 of 12 layers, 12 heads, MLPs of 4 w (`expansion=4`, M · layers · (4 w² + 2 w) parameters
    more), b that starts with a standard deviation of 0.02 (`spread`), and a final normalisation of each modality
    (`norm=True`, 2 M w more), and averages the logits of the modalities' class tokens; its code has configurations that
    average tokens instead. Here the means of the tokens go to one head. With one layer nothing is exchanged: b reaches
    another modality only in the next layer.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        width: int = 64,
        layers: int = 2,
        bottlenecks: int = 4,
        heads: int = 4,
        expansion: int = 2,
        spread: Positive = 1.0,
        norm: bool = False,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.projections = Projections(in_features, width, dtype=dtype, rngs=rngs)
        draw = nnx.initializers.normal(spread)
        self.shared = nnx.Param(draw(rngs.params(), (bottlenecks, width), jnp.float32))

        def blocks() -> Any:
            return nnx.Dict(
                {
                    name: TransformerBlock(width, heads, expansion=expansion, dtype=dtype, rngs=rngs)
                    for name in self.projections
                }
            )

        self.blocks = nnx.List([blocks() for _ in range(layers)])
        normed = self.projections if norm else ()
        self.norms = nnx.Dict({name: nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for name in normed})
        self.out_features = width * len(in_features)

    def __call__(self, tokens: Tokens, masks: Masks) -> Joint:
        streams = self.projections(tokens)
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
        if self.norms:
            streams = {name: self.norms[name](x) for name, x in streams.items()}
        return jnp.concatenate([masked_mean(x, masks[name]) for name, x in streams.items()], axis=-1)
