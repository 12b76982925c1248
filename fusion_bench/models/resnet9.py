"""ResNet-9: the usual CNN of fast CIFAR-10 training on accelerators (after Page, "How to train your ResNet", 2018)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from fusion_bench.models.cnn import ConvNormRelu, FeatureMap, Modulation


@dataclasses.dataclass(frozen=True)
class ResNetStageSpec:
    """A 3×3 layer of `width` channels, halved by max pooling or not, then a residual pair of them or none."""

    width: int
    halve: bool
    residual: bool

    @property
    def blocks(self) -> int:
        """Number of layers of the residual pair."""
        return 2 if self.residual else 0

    def build(self, in_features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "ResNetStage":
        """Returns the stage."""
        return ResNetStage(in_features, self, dtype=dtype, rngs=rngs)


RESNET9 = (
    ResNetStageSpec(64, halve=False, residual=False),
    ResNetStageSpec(128, halve=True, residual=True),
    ResNetStageSpec(256, halve=True, residual=False),
    ResNetStageSpec(512, halve=True, residual=True),
)
"""Its stages; the last map is pooled by the maximum."""


class ResNetStage(nnx.Module):
    """relu(norm(conv3×3(x))), halved by max pooling or not, then x + layer(layer(x)) or nothing."""

    def __init__(self, in_features: int, spec: ResNetStageSpec, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.layer = ConvNormRelu(in_features, spec.width, dtype=dtype, rngs=rngs)
        self.halve = spec.halve
        self.blocks = nnx.List(
            [ConvNormRelu(spec.width, spec.width, dtype=dtype, rngs=rngs) for _ in range(spec.blocks)]
        )

    def __call__(self, x: FeatureMap, modulations: Sequence[Modulation | None]) -> FeatureMap:
        x = self.layer(x)
        if self.halve:
            x = nnx.max_pool(x, (2, 2), (2, 2), padding="SAME")
        if not self.blocks:
            return x
        residual = x
        for block, modulation in zip(self.blocks, modulations, strict=True):
            residual = block(residual, modulation)
        return x + residual
