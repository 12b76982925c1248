"""Embeddings of every kind of modality as tokens, for transformers."""

import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Inexact

from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.models.cnn import FeatureMap
from fusion_bench.models.layers import space_to_depth

Stem = Literal["patch", "conv"]
_INITIALIZER = nnx.initializers.normal(0.02)


class StridedConvolution(nnx.Module):
    """relu(norm(conv3×3(x))) of stride 2, as one matrix product: XLA's convolution is slow in a loop on a CPU."""

    def __init__(self, in_features: int, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.linear = nnx.Linear(9 * in_features, features, use_bias=False, dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(features, momentum=0.9, dtype=dtype, rngs=rngs)

    def __call__(self, x: FeatureMap) -> FeatureMap:
        height, width = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
        rows, columns = -(-height // 2), -(-width // 2)
        seen = [x[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
        return jax.nn.relu(self.norm(self.linear(jnp.concatenate(seen, axis=-1))))


class ConvolutionalStem(nnx.Module):
    """Convolutions of stride 2 down to one pixel a patch, doubling the channels to `features`, then a linear map.

    Xiao et al., "Early Convolutions Help Transformers See Better", 2021, arXiv:2106.14881. The patch is a power of 2.
    """

    def __init__(self, in_features: int, features: int, *, patch: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        depth = patch.bit_length() - 1
        widths = [in_features, *(max(1, features >> (depth - 1 - level)) for level in range(depth))]
        self.layers = nnx.List(
            [StridedConvolution(a, b, dtype=dtype, rngs=rngs) for a, b in itertools.pairwise(widths)]
        )
        self.project = nnx.Linear(features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: FeatureMap) -> FeatureMap:
        for layer in self.layers:
            x = layer(x)
        return self.project(x)


class TokenEmbedding(nnx.Module):
    """Grid: a linear map of each patch; tokens: a table; sequence: a linear map of each step; vector: one token.

    A learned position is added to each; before that, a layer normalisation of what is embedded if `normed`. With the
    stem "conv", a grid's patches go through a `ConvolutionalStem`.
    """

    def __init__(
        self,
        spec: ModalitySpec,
        features: int,
        *,
        patch: int,
        stem: Stem = "patch",
        normed: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.kind = spec.kind
        self.patch = patch if stem == "patch" else 1
        if spec.kind == "tokens":
            assert spec.vocabulary_size is not None
            length = spec.shape[0]
            size = spec.vocabulary_size
            self.embed = nnx.Embed(size, features, embedding_init=_INITIALIZER, dtype=dtype, rngs=rngs)
        elif spec.kind == "grid":
            height, width, channel = spec.shape
            length = -(-height // patch) * -(-width // patch)
            if stem == "patch":
                self.embed = nnx.Linear(patch**2 * channel, features, dtype=dtype, rngs=rngs)
            else:
                self.embed = ConvolutionalStem(channel, features, patch=patch, dtype=dtype, rngs=rngs)
        else:
            length = spec.shape[0] if spec.kind == "sequence" else 1
            self.embed = nnx.Linear(spec.shape[-1], features, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(features, dtype=dtype, rngs=rngs) if normed else None
        self.position = nnx.Param(_INITIALIZER(rngs.params(), (length, features), jnp.float32))

    def __call__(
        self, batch: ModalityBatch
    ) -> tuple[Inexact[Array, "batch token feature"], Bool[Array, "batch token"]]:
        values = space_to_depth(batch.values, self.patch) if self.kind == "grid" and self.patch > 1 else batch.values
        tokens = self.embed(values)
        if self.kind != "tokens":  # a grid's patches in rows, a sequence as it is, or one vector
            tokens = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        if self.norm is not None:
            tokens = self.norm(tokens)
        tokens = tokens + self.position[: tokens.shape[1]].astype(tokens.dtype)
        mask = jnp.ones(tokens.shape[:2], bool) if batch.mask is None else batch.mask
        return tokens, mask
