"""The encoders of a modality, by kind and size: the same modules with the same widths in every strategy."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Inexact

from fusion_bench.config import EncoderSize, ModelConfig
from fusion_bench.data.batches import ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.models.cnn import CNN, RESNET9, PatchStageSpec, StageSpec
from fusion_bench.models.layers import TemporalConvolution, masked_mean
from fusion_bench.models.tokens import TokenEmbedding
from fusion_bench.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Widths:
    """Widths and depths of the encoders of one size.

    Attributes:
      stages: of the CNN.
      features: width of word embeddings, of temporal convolutions, and of pooled text and vector features.
      hidden: width of the hidden layer of every head.
      tokens: width of the transformers.
      layers: depth of the joint transformer; that over a text or a sequence has half of it.
      patch: side of the joint transformer's patches, in pixels.
      pool: pooling of the CNN's last feature map.
    """

    stages: tuple[StageSpec, ...]
    features: int
    hidden: int
    tokens: int
    layers: int
    patch: int
    pool: Literal["mean", "max"] = "mean"


WIDTHS: Mapping[EncoderSize, Widths] = {
    "micro": Widths((PatchStageSpec(4, 8, 1),), 6, 8, 8, 1, 4),
    "tiny": Widths((PatchStageSpec(4, 32, 1), PatchStageSpec(2, 64, 1)), 64, 64, 48, 1, 8),
    "small": Widths((PatchStageSpec(4, 96, 1), PatchStageSpec(2, 192, 1)), 64, 128, 64, 2, 4),
    "resnet9": Widths(RESNET9, 128, 256, 192, 6, 4, "max"),
}
HEADS = 4

SUMMARIES: Mapping[str, str] = {
    "micro": "grid: residual CNN, 4×4 stem, 8×8×8; for smoke runs and tests",
    "tiny": "grid: residual CNN, 4×4 stem, 8×8×32 and 4×4×64; for a quick table",
    "small": "grid: residual CNN, 4×4 stem, 8×8×96 and 4×4×192; for studies on a CPU",
    "resnet9": "grid: ResNet-9, 64 to 512 channels; for accelerators",
    "pooled": "text: each word through one hidden layer, mean over the words; sequence: a temporal convolution",
    "transformer": "text and sequence: a small transformer over the words or steps",
}


class Encoded(NamedTuple):
    """Tokens of one modality, [batch, token, feature], with a mask where some of them are padding."""

    tokens: Inexact[Array, "batch token feature"]
    mask: Bool[Array, "batch token"] | None = None


class GridEncoder(nnx.Module):
    """A CNN; its tokens are the pixels of the last feature map. `overlay` is as in `CNN`."""

    def __init__(
        self, spec: ModalitySpec, widths: Widths, *, overlay: tuple[int, int] = (0, 0), dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.cnn = CNN(spec.shape[-1], widths.stages, overlay=overlay, dtype=dtype, rngs=rngs)
        self.features = self.cnn.features
        self.pool = widths.pool

    def __call__(self, batch: ModalityBatch, **options: Any) -> Encoded:
        """Returns the tokens; the options are the CNN's."""
        features = self.cnn(batch.values, **options)
        return Encoded(features.reshape(features.shape[0], -1, features.shape[-1]))


class PooledTextEncoder(nnx.Module):
    """relu(W e + b) for each word of embedding e."""

    pool = "mean"

    def __init__(self, spec: ModalitySpec, widths: Widths, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.embed = WordEmbedding(spec, widths.features, dtype=dtype, rngs=rngs)
        self.project = nnx.Linear(widths.features, widths.features, dtype=dtype, rngs=rngs)
        self.features = widths.features

    def __call__(self, batch: ModalityBatch) -> Encoded:
        return Encoded(jax.nn.relu(self.project(self.embed(batch.values))), batch.mask)


class SequenceEncoder(nnx.Module):
    """Temporal convolutions over the steps: x ← conv_1(x), then x ← x + conv_d(x) for d = 2, 4 and so on.

    The dilation d doubles until a step in the middle has seen the whole sequence, so that the order of any two steps
    can be told. Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
    Sequence Modeling", 2018, arXiv:1803.01271; theirs see the past alone.
    """

    pool = "mean"

    def __init__(self, spec: ModalitySpec, widths: Widths, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        length, in_features = spec.shape
        depth = max(1, length.bit_length() - 1)  # a step then sees 2^(depth + 1) - 1 steps, itself among them
        self.features = widths.features

        def convolution(level: int) -> TemporalConvolution:
            width = self.features if level else in_features
            return TemporalConvolution(width, self.features, dilation=2**level, dtype=dtype, rngs=rngs)

        self.layers = nnx.List([convolution(level) for level in range(depth)])

    def __call__(self, batch: ModalityBatch) -> Encoded:
        x = self.layers[0](batch.values, batch.mask)
        for layer in self.layers[1:]:
            x = x + layer(x, batch.mask)
        return Encoded(x, batch.mask)


class TransformerEncoder(nnx.Module):
    """A transformer over the words of a text or the steps of a sequence."""

    pool = "mean"

    def __init__(self, spec: ModalitySpec, widths: Widths, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.embed = TokenEmbedding(spec, widths.tokens, patch=widths.patch, dtype=dtype, rngs=rngs)
        layers = max(1, widths.layers // 2)
        self.transformer = Transformer(widths.tokens, HEADS, layers, dtype=dtype, rngs=rngs)
        self.features = widths.tokens

    def __call__(self, batch: ModalityBatch) -> Encoded:
        tokens, mask = self.embed(batch)
        return Encoded(self.transformer(tokens, mask), mask)


class VectorEncoder(nnx.Module):
    """Two hidden layers with ReLU; one token."""

    pool = "mean"

    def __init__(self, spec: ModalitySpec, widths: Widths, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.first = nnx.Linear(spec.shape[0], widths.features, dtype=dtype, rngs=rngs)
        self.second = nnx.Linear(widths.features, widths.features, dtype=dtype, rngs=rngs)
        self.features = widths.features

    def __call__(self, batch: ModalityBatch) -> Encoded:
        return Encoded(jax.nn.relu(self.second(jax.nn.relu(self.first(batch.values))))[:, None])


Encoder = GridEncoder | PooledTextEncoder | SequenceEncoder | TransformerEncoder | VectorEncoder


class PooledEncoder(nnx.Module):
    """One feature vector h_m per example: the mean or the maximum of an encoder's tokens, batch-normalised.

    Every modality's features then start with mean 0 and standard deviation 1. Without it the shared positive offset of
    ReLU features dominates, above all in products of features.
    """

    def __init__(self, encoder: Encoder, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.encoder = encoder
        self.features = encoder.features
        self.norm = nnx.BatchNorm(self.features, momentum=0.9, dtype=dtype, rngs=rngs)

    def __call__(self, batch: ModalityBatch, **options: Any) -> Inexact[Array, "batch feature"]:
        """Returns h_m; the options are the encoder's."""
        return self.norm(pooled(self.encoder, batch, **options))

    def of_tokens(self, encoded: Encoded) -> Inexact[Array, "batch feature"]:
        """Returns h_m from the encoder's tokens, which may have been changed."""
        return self.norm(pool(encoded, self.encoder.pool))


def pooled(encoder: Encoder, batch: ModalityBatch, **options: Any) -> Inexact[Array, "batch feature"]:
    """Returns the mean of an encoder's tokens, or their maximum where it pools so; the options are the encoder's."""
    return pool(encoder(batch, **options), encoder.pool)


def pool(encoded: Encoded, how: str) -> Inexact[Array, "batch feature"]:
    """Returns the maximum of the tokens if `how` is "max", else their mean."""
    return encoded.tokens.max(1) if how == "max" else masked_mean(*encoded)


class WordEmbedding(nnx.Embed):
    """A table of word vectors with small initial values, so that uninformative words add little noise to a mean."""

    def __init__(self, spec: ModalitySpec, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        assert spec.vocabulary_size is not None
        initializer = nnx.initializers.normal(0.1)
        super().__init__(spec.vocabulary_size, features, embedding_init=initializer, dtype=dtype, rngs=rngs)


def make_encoder(spec: ModalitySpec, config: ModelConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Encoder:
    """Returns the encoder of a modality: by its kind, of the size and the text encoder that `config` names."""
    of_text = {"pooled": PooledTextEncoder, "transformer": TransformerEncoder}[config.text_encoder]
    of_sequence = {"pooled": SequenceEncoder, "transformer": TransformerEncoder}[config.text_encoder]
    make = {"grid": GridEncoder, "tokens": of_text, "sequence": of_sequence, "vector": VectorEncoder}[spec.kind]
    return make(spec, WIDTHS[config.encoder], dtype=dtype, rngs=rngs)


def compute_dtype(config: ModelConfig) -> jnp.dtype:
    """Returns the dtype of computation: `config.dtype`, or the backend's usual one."""
    if config.dtype == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.dtype)
