"""MulT: crossmodal transformers between all pairs of modalities, then a transformer for each modality."""

import itertools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Inexact

from fusion_bench.fusion.layers import Dtype, Joint, Masks, Projections, Sizes, Tokens
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.transformer import CrossBlock

Sequence = Inexact[Array, "batch token feature"]


class Stack(nnx.Module):
    """Blocks one after another over scaled tokens with positions, and a final normalisation.

    A block has one normalisation for queries and source, and an MLP of four times the width with ReLU.
    Tokens are multiplied by √w, and sinusoidal positions added (Vaswani et al. 2017, arXiv:1706.03762).
    """

    def __init__(self, width: int, heads: int, layers: int, *, dtype: Dtype, rngs: nnx.Rngs):
        def block() -> CrossBlock:
            return CrossBlock(
                width, heads, expansion=4, activation=jax.nn.relu, shares_norm=True, dtype=dtype, rngs=rngs
            )

        self.layers = nnx.List([block() for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Sequence, source: Inexact[Array, "batch _ feature"] | None, mask: Bool[Array, "batch _"]
    ) -> Sequence:
        """Returns x after it has read the source; without one it reads itself."""
        x = placed(x)
        other = None if source is None else placed(source)
        for layer in self.layers:
            x = layer(x, x if other is None else other, mask)
        return self.norm(x)


def placed(x: Sequence) -> Sequence:
    """Returns tokens times √w, plus their positions."""
    return math.sqrt(x.shape[-1]) * x + positions(x.shape[1], x.shape[2]).astype(x.dtype)


def positions(length: int, width: int) -> Float[Array, "token feature"]:
    """Sines, then cosines, of t / 10000^(i / (w/2 - 1)) for i = 0 … w/2 - 1 and t = 1 … length; zero if w is odd."""
    half = width // 2
    angles = np.arange(1, length + 1)[:, None] * 10_000.0 ** (-np.arange(half) / max(half - 1, 1))
    parts = [np.sin(angles), np.cos(angles), np.zeros((length, width % 2))]
    return jnp.asarray(np.concatenate(parts, axis=1), jnp.float32)


@register("mult", reference="MulT: Tsai et al. 2019, arXiv:1906.00295", reads="tokens", size="width")
class CrossmodalTransformers(nnx.Module):
    """Crossmodal transformers of all pairs, then one of each modality: concat_m pool(T_m(concat_{n≠m} C_{n→m})).

    C_{n→m}, of P_m H_m and P_n H_n, has a token for each of H_m: in each layer the queries come from modality m, keys
    and values from the tokens of modality n. T_m attends to itself, at width v = (M - 1) w. A layer has one
    normalisation for queries and source, and an MLP of four times the width with ReLU; tokens are scaled by √w and have
    sinusoidal positions, and each transformer ends in a normalisation. `pool` is the mean, or the last token, as in the
    paper. Any number of modalities. Parameters with width w: Σ_m d_m · w + M (M - 1) · (layers · (12 w² + 13 w) + 2 w)
    + M · (memory · (12 v² + 13 v) + 2 v). The paper has width 40, 4 layers, 8 or 10 heads and dropout; the authors'
    code has causal masks, which images do not have, 3 memory layers at least and a residual layer before the head.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        width: int = 32,
        layers: int = 2,
        memory: int = 1,
        heads: int = 4,
        pool: Literal["mean", "last"] = "mean",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        self.projections = Projections(in_features, width, bias=None, dtype=dtype, rngs=rngs)
        self.pairs = tuple(itertools.permutations(self.projections, 2))
        joint = width * (len(in_features) - 1)

        def stack(width: int, depth: int) -> Any:
            return Stack(width, heads, depth, dtype=dtype, rngs=rngs)

        self.crossmodal = nnx.Dict({f"{source} to {target}": stack(width, layers) for target, source in self.pairs})
        self.memory = nnx.Dict({name: stack(joint, memory) for name in self.projections})
        self.pool = pool
        self.out_features = joint * len(in_features)

    def __call__(self, tokens: Tokens, masks: Masks) -> Joint:
        projected = self.projections(tokens)
        pooled = []
        for target, memory in self.memory.items():
            read = [
                self.crossmodal[f"{source} to {target}"](projected[target], projected[source], masks[source])
                for source in projected
                if source != target
            ]
            joint = memory(jnp.concatenate(read, axis=-1), None, masks[target])
            pooled.append(masked_mean(joint, masks[target]) if self.pool == "mean" else last(joint, masks[target]))
        return jnp.concatenate(pooled, axis=-1)


def last(tokens: Sequence, mask: Bool[Array, "batch token"]) -> Inexact[Array, "batch feature"]:
    """Returns the last token that is not masked, or zero if there is none."""
    place = jnp.where(mask, jnp.arange(mask.shape[1]), -1).max(1)
    return (tokens * (jnp.arange(mask.shape[1]) == place[:, None])[:, :, None].astype(tokens.dtype)).sum(1)
