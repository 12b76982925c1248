"""Every modality as a sequence of tokens: what a transformer reads."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Inexact

from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.models.layers import space_to_depth

_POSITION = nnx.initializers.normal(0.02)


class TokenEmbedding(nnx.Module):
    """Grid: a linear map of each patch; tokens: a table; vector: one token. A learned position is added to each."""

    def __init__(self, spec: ModalitySpec, features: int, *, patch: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kind = spec.kind
        self.patch = patch
        if spec.kind == "tokens":
            assert spec.vocabulary_size is not None
            length = spec.shape[0]
            self.embed = nnx.Embed(
                spec.vocabulary_size, features, embedding_init=nnx.initializers.normal(0.02), dtype=dtype, rngs=rngs
            )
        elif spec.kind == "grid":
            height, width, channel = spec.shape
            length = -(-height // patch) * -(-width // patch)
            self.embed = nnx.Linear(patch**2 * channel, features, dtype=dtype, rngs=rngs)
        else:
            length = 1
            self.embed = nnx.Linear(spec.shape[0], features, dtype=dtype, rngs=rngs)
        self.position = nnx.Param(_POSITION(rngs.params(), (length, features), jnp.float32))

    def __call__(
        self, batch: ModalityBatch
    ) -> tuple[Inexact[Array, "batch token feature"], Bool[Array, "batch token"]]:
        values = batch.values
        if self.kind == "grid":
            tokens = self.embed(space_to_depth(values, self.patch))
            tokens = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        elif self.kind == "vector":
            tokens = self.embed(values)[:, None]
        else:
            tokens = self.embed(values)
        tokens = tokens + self.position[: tokens.shape[1]].astype(tokens.dtype)
        mask = jnp.ones(tokens.shape[:2], bool) if batch.mask is None else batch.mask
        return tokens, mask
