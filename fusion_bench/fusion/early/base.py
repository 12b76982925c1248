"""Parts of early fusion: further channels in the image's CNN, and one transformer over all tokens."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.data.batches import Inputs, ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.models.cnn import FeatureMap
from fusion_bench.models.encoders import HEADS, GridEncoder, WordEmbedding
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.tokens import Stem, TokenEmbedding
from fusion_bench.models.transformer import Order, Transformer

LOUDNESS = 0.1
"""Default standard deviation of a channel that repeats one number at every pixel; the image's channels have 1.

Such a channel shifts all activations of the first layer together; a large shift would hide the image.
"""


class ChannelFusion(Strategy):
    """One CNN over the image; at one depth, each other modality is concatenated to its feature map as channels.

    A text is the mean of its word embeddings, a sequence the mean of a linear map of its steps, a vector a linear map
    of itself; all are normalised, scaled by `loudness` and repeated at every pixel. A further grid is resized to the
    map's size.
    """

    def __init__(self, blueprint: Blueprint, *, depth: int, channels: int, loudness: float):
        specs = blueprint.task.modalities
        self.base = blueprint.largest_grid
        self.others = tuple(name for name in blueprint.modalities if name != self.base)

        def embed(name: str) -> OverlaidChannels:
            rngs = blueprint.rngs(f"channels/{name}")
            return OverlaidChannels(specs[name], channels, loudness, dtype=blueprint.dtype, rngs=rngs)

        self.embeddings = nnx.Dict({name: embed(name) for name in self.others if specs[name].kind != "grid"})
        added = sum(specs[name].shape[-1] if specs[name].kind == "grid" else channels for name in self.others)
        rngs = blueprint.rngs(f"encoder/{self.base}")
        cnn = GridEncoder(specs[self.base], blueprint.widths, overlay=(depth, added), dtype=blueprint.dtype, rngs=rngs)
        self.encoder = blueprint.pooled(cnn)
        self.head = blueprint.head(self.encoder.features)

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        def overlay(grid: FeatureMap) -> FeatureMap:
            layers = [grid]
            for name in self.others:
                if name in self.embeddings:  # the same at every pixel
                    channels = self.embeddings[name](inputs[name])[:, None, None, :]
                    layers.append(jnp.broadcast_to(channels, (*grid.shape[:3], channels.shape[-1])))
                else:
                    further = inputs[name].values
                    layers.append(resized(further, grid.shape[1], grid.shape[2]))
            return jnp.concatenate([layer.astype(grid.dtype) for layer in layers], axis=-1)

        return Outputs(self.head(self.encoder(inputs[self.base], overlay=overlay)))


def resized(
    grid: Inexact[Array, "batch _ _ channel"], height: int, width: int
) -> Inexact[Array, "batch {height} {width} channel"]:
    """Returns a grid of another size, by linear interpolation, as `jax.image.resize` does."""
    shape = height, width, grid.shape[-1]
    scale, translation = jnp.array([height / grid.shape[1], width / grid.shape[2]]), jnp.zeros(2)
    # each by itself, so that the batch of an exported model may have any size
    return jax.vmap(lambda one: jax.image.scale_and_translate(one, shape, (0, 1), scale, translation, "linear"))(grid)


class OverlaidChannels(nnx.Module):
    """A text, a sequence or a vector as channels, with standard deviation `loudness`.

    They are the mean of word embeddings, the mean of a linear map of the steps, or a linear map.
    """

    def __init__(self, spec: ModalitySpec, channels: int, loudness: float, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.loudness = loudness
        if spec.kind == "tokens":
            self.embed = WordEmbedding(spec, channels, dtype=dtype, rngs=rngs)
        else:
            use_bias = spec.kind == "vector"  # the norm takes it away again; stored models of vectors have one
            self.embed = nnx.Linear(spec.shape[-1], channels, use_bias=use_bias, dtype=dtype, rngs=rngs)
        self.is_pooled = spec.kind in ("tokens", "sequence")
        self.norm = nnx.BatchNorm(channels, momentum=0.9, use_scale=False, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, batch: ModalityBatch) -> Inexact[Array, "batch channel"]:
        values = self.embed(batch.values)
        return self.loudness * self.norm(masked_mean(values, batch.mask) if self.is_pooled else values)


class JointTransformer(Strategy):
    """head(norm([mean(T_1); …; mean(T_M)])), [T_1; …; T_M] = transformer([…; norm(E_m x_m) + p_m; …]).

    E_m makes a token of each patch of a grid, word of a text or step of a sequence, and one of a vector. Each modality
    has its own embedding, a layer normalisation of it, and its own learned positions p_m, which also distinguish the
    modalities. Every token attends to every other one that is not padding. The means over each modality's tokens are
    batch-normalised before the head. With `stem="conv"` a grid's tokens come from a few convolutions.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        modality: str | None = None,
        stem: Stem = "patch",
        expansion: int = 2,
        order: Order = "pre",
    ):
        self.modality = modality
        names = blueprint.modalities if modality is None else (modality,)
        specs, widths, dtype = blueprint.task.modalities, blueprint.widths, blueprint.dtype

        def embed(name: str) -> TokenEmbedding:
            rngs = blueprint.rngs(f"tokens/{name}")
            return TokenEmbedding(
                specs[name], widths.tokens, patch=widths.patch, stem=stem, normed=True, dtype=dtype, rngs=rngs
            )

        self.embeddings = nnx.Dict({name: embed(name) for name in names})
        rngs = blueprint.rngs("transformer")
        self.transformer = Transformer(
            widths.tokens, HEADS, widths.layers, expansion=expansion, order=order, dtype=dtype, rngs=rngs
        )
        self.norm = blueprint.norm(widths.tokens * len(names))
        self.head = blueprint.head(widths.tokens * len(names))

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        embedded = {name: embed(inputs[name]) for name, embed in self.embeddings.items()}
        masks = [mask for _, mask in embedded.values()]
        tokens = jnp.concatenate([tokens for tokens, _ in embedded.values()], axis=1)
        tokens = self.transformer(tokens, jnp.concatenate(masks, axis=1))
        ends = [*itertools.accumulate(mask.shape[1] for mask in masks)]
        means = [
            masked_mean(part, mask) for part, mask in zip(jnp.split(tokens, ends[:-1], axis=1), masks, strict=True)
        ]
        return Outputs(self.head(self.norm(jnp.concatenate(means, axis=-1))))
