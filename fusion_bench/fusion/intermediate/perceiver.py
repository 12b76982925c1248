"""Perceiver: a few latent vectors read the tokens of all modalities."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fields import Positive
from fusion_bench.fusion.layers import Dtype, Joint, Masks, Projections, Sizes, Tokens, normal_weight
from fusion_bench.fusion.registry import register
from fusion_bench.models.transformer import CrossBlock, TransformerBlock


@register("perceiver", reference="Perceiver: Jaegle et al. 2021, arXiv:2103.03206", reads="tokens", size="width")
class Perceiver(nnx.Module):
    """N latents z attend to all tokens, then to each other: z ← cross(z, [P_1 H_1 + a_1; …; P_M H_M + a_M]), z ← T(z).

    P_m maps tokens to one width, and a_m is a learned vector that marks the modality. Both steps are repeated `reads`
    times with weights of their own; T is a transformer of `layers` blocks. The result is the mean of the latents. Any
    number of modalities. Parameters with width w and MLPs of e w (`expansion`): Σ_m (d_m + 1) · w + (M + N) · w + reads
    · ((4 + 2 e) w² + (11 + e) w + layers · ((4 + 2 e) w² + (9 + e) w)). The paper has 512 latents of width 1,024, 8
    reads of 6 blocks that share weights, one head in the reads and 8 in the blocks, and positions by Fourier features;
    here positions are the encoders'. DeepMind's code has MLPs of one width (`expansion=1`), latents that start with a
    standard deviation of 0.02 (`spread`), tokens of their own widths, and marks that are further channels of them.
    Perceiver IO (arXiv:2107.14795) decodes by a query instead.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        width: int = 64,
        latents: int = 8,
        reads: int = 1,
        layers: int = 1,
        heads: int = 4,
        expansion: int = 2,
        spread: Positive = 1.0,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.projections = Projections(in_features, width, dtype=dtype, rngs=rngs)
        self.marks = nnx.Dict({name: normal_weight((width,), fan_in=width, rngs=rngs) for name in self.projections})
        self.latents = nnx.Param(nnx.initializers.normal(spread)(rngs.params(), (latents, width), jnp.float32))
        form: Any = {"expansion": expansion, "dtype": dtype, "rngs": rngs}
        self.cross = nnx.List([CrossBlock(width, heads, **form) for _ in range(reads)])
        self.blocks = nnx.List(
            [nnx.List([TransformerBlock(width, heads, **form) for _ in range(layers)]) for _ in range(reads)]
        )
        self.out_features = width

    def __call__(self, tokens: Tokens, masks: Masks) -> Joint:
        marked = [x + self.marks[name][...].astype(x.dtype) for name, x in self.projections(tokens).items()]
        source = jnp.concatenate(marked, axis=1)
        mask = jnp.concatenate([masks[name] for name in self.projections], axis=1)
        z = jnp.broadcast_to(self.latents[...].astype(source.dtype), (source.shape[0], *self.latents.shape))
        visible = jnp.ones(z.shape[:2], bool)
        for read, blocks in zip(self.cross, self.blocks, strict=True):
            z = read(z, source, mask)
            for block in blocks:
                z = block(z, visible)
        return z.mean(1)
