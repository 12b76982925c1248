"""The grid encoder: a small residual CNN, in three sizes, or ResNet-9, for images, spectrograms and any other grid."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.models.convolution import Conv3x3
from fusion_bench.models.layers import space_to_depth

FeatureMap = Inexact[Array, "batch _height _width _channel"]  # sizes differ before and after a stage


class Modulation(NamedTuple):
    """Scale and shift of each channel of a feature map, [batch, channel]."""

    scale: Inexact[Array, "batch channel"]
    shift: Inexact[Array, "batch channel"]


@dataclasses.dataclass(frozen=True)
class PatchStageSpec:
    """A patch×patch stem of stride `patch`, then residual 3×3 blocks at `width` channels, which can be modulated."""

    patch: int
    width: int
    blocks: int

    def build(self, in_features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "PatchStage":
        return PatchStage(in_features, self, dtype=dtype, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class ResNetStageSpec:
    """A 3×3 layer of `width` channels, max pooling if `halve`, then no blocks or 2 blocks as one residual branch."""

    width: int
    halve: bool
    blocks: int

    def build(self, in_features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "ResNetStage":
        return ResNetStage(in_features, self, dtype=dtype, rngs=rngs)


StageSpec = PatchStageSpec | ResNetStageSpec

RESNET9 = (
    ResNetStageSpec(64, halve=False, blocks=0),
    ResNetStageSpec(128, halve=True, blocks=2),
    ResNetStageSpec(256, halve=True, blocks=0),
    ResNetStageSpec(512, halve=True, blocks=2),
)
"""ResNet-9, the usual CNN of fast CIFAR-10 training on accelerators; the last map is pooled by the maximum.

After Page, "How to train your ResNet", 2018.
"""


class NormRelu(nnx.Module):
    """Batch normalisation, modulation if there is one, then ReLU."""

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(features, momentum=0.9, dtype=dtype, rngs=rngs)

    def __call__(self, x: FeatureMap, modulation: Modulation | None = None) -> FeatureMap:
        x = self.norm(x)
        if modulation is not None:
            x = x * modulation.scale[:, None, None] + modulation.shift[:, None, None]
        return jax.nn.relu(x)


class ConvNormRelu(nnx.Module):
    """relu(norm(conv3×3(x)))."""

    def __init__(self, in_features: int, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = Conv3x3(in_features, features, dtype=dtype, rngs=rngs)
        self.activate = NormRelu(features, dtype=dtype, rngs=rngs)

    def __call__(self, x: FeatureMap, modulation: Modulation | None = None) -> FeatureMap:
        return self.activate(self.conv(x), modulation)


class PatchStage(nnx.Module):
    """relu(norm(linear map of each patch)), then residual blocks x + relu(norm(conv3×3(x)))."""

    def __init__(self, in_features: int, spec: PatchStageSpec, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.patch = spec.patch
        initializer = nnx.initializers.he_normal()
        inputs = spec.patch**2 * in_features
        self.stem = nnx.Linear(inputs, spec.width, use_bias=False, kernel_init=initializer, dtype=dtype, rngs=rngs)
        self.activate = NormRelu(spec.width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(_blocks(spec, dtype=dtype, rngs=rngs))

    def __call__(self, x: FeatureMap, modulations: Sequence[Modulation | None] = ()) -> FeatureMap:
        x = self.activate(self.stem(space_to_depth(x, self.patch)))
        for block, modulation in zip(self.blocks, modulations or [None] * len(self.blocks), strict=True):
            x = x + block(x, modulation)
        return x


class ResNetStage(nnx.Module):
    """relu(norm(conv3×3(x))), then max pooling or not, then x + layer(layer(x)) or nothing."""

    def __init__(self, in_features: int, spec: ResNetStageSpec, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.layer = ConvNormRelu(in_features, spec.width, dtype=dtype, rngs=rngs)
        self.halve = spec.halve
        self.blocks = nnx.List(_blocks(spec, dtype=dtype, rngs=rngs))

    def __call__(self, x: FeatureMap, modulations: Sequence[Modulation | None] = ()) -> FeatureMap:
        x = self.layer(x)
        if self.halve:
            x = nnx.max_pool(x, (2, 2), (2, 2), padding="SAME")
        residual = x
        for block, modulation in zip(self.blocks, modulations or [None] * len(self.blocks), strict=True):
            residual = block(residual, modulation)
        return x + residual if self.blocks else x


def _blocks(spec: StageSpec, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> list[ConvNormRelu]:
    return [ConvNormRelu(spec.width, spec.width, dtype=dtype, rngs=rngs) for _ in range(spec.blocks)]


class CNN(nnx.Module):
    """Stages one after another.

    Further channels can be concatenated to the input of one stage: `overlay` is (stage, number of channels), with
    stages counted from 0; the number of stages stands for the last feature map.
    """

    def __init__(
        self,
        in_features: int,
        specs: Sequence[StageSpec],
        *,
        overlay: tuple[int, int] = (0, 0),
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        widths = [in_features, *(spec.width for spec in specs)]
        self.overlaid, channels = overlay
        widths[self.overlaid] += channels
        self.stages = nnx.List(
            [spec.build(width, dtype=dtype, rngs=rngs) for width, spec in zip(widths, specs, strict=False)]
        )
        self.block_widths = tuple(spec.width for spec in specs for _ in range(spec.blocks))
        self.features = widths[-1]

    def __call__(
        self,
        x: FeatureMap,
        *,
        overlay: Callable[[FeatureMap], FeatureMap] = lambda x: x,
        modulations: Sequence[Modulation] = (),
    ) -> FeatureMap:
        """Returns the last feature map.

        `overlay` concatenates the further channels to a feature map. There is one modulation per block, applied
        before its ReLU, or none.
        """
        remaining = iter(modulations or [None] * len(self.block_widths))
        for depth, stage in enumerate(self.stages):
            x = overlay(x) if depth == self.overlaid else x
            x = stage(x, list(itertools.islice(remaining, len(stage.blocks))))
        return overlay(x) if self.overlaid == len(self.stages) else x
