"""Embeddings of every kind of modality as tokens, for transformers."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Inexact

from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.models.layers import space_to_depth

_INITIALIZER = nnx.initializers.normal(0.02)


class TokenEmbedding(nnx.Module):
    """Grid: a linear map of each patch; tokens: a table; sequence: a linear map of each step; vector: one token.

    A learned position is added to each.
    """

    def __init__(self, spec: ModalitySpec, features: int, *, patch: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kind = spec.kind
        self.patch = patch
        if spec.kind == "tokens":
            assert spec.vocabulary_size is not None
            length = spec.shape[0]
            size = spec.vocabulary_size
            self.embed = nnx.Embed(size, features, embedding_init=_INITIALIZER, dtype=dtype, rngs=rngs)
        elif spec.kind == "grid":
            height, width, channel = spec.shape
            length = -(-height // patch) * -(-width // patch)
            self.embed = nnx.Linear(patch**2 * channel, features, dtype=dtype, rngs=rngs)
        else:
            length = spec.shape[0] if spec.kind == "sequence" else 1
            self.embed = nnx.Linear(spec.shape[-1], features, dtype=dtype, rngs=rngs)
        self.position = nnx.Param(_INITIALIZER(rngs.params(), (length, features), jnp.float32))

    def __call__(
        self, batch: ModalityBatch
    ) -> tuple[Inexact[Array, "batch token feature"], Bool[Array, "batch token"]]:
        values = space_to_depth(batch.values, self.patch) if self.kind == "grid" else batch.values
        tokens = self.embed(values)
        if self.kind != "tokens":  # a grid's patches in rows, a sequence as it is, or one vector
            tokens = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        tokens = tokens + self.position[: tokens.shape[1]].astype(tokens.dtype)
        mask = jnp.ones(tokens.shape[:2], bool) if batch.mask is None else batch.mask
        return tokens, mask
