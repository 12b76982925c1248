"""ResNet-9: the usual CNN of fast CIFAR-10 training on accelerators (after Page, "How to train your ResNet", 2018)."""

from collections.abc import Iterable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.models.cnn import FeatureMap, NormRelu
from fusion_bench.models.convolution import Conv3x3

WIDTHS = (64, 128, 256, 512)


class ConvNormRelu(nnx.Module):
    """relu(norm(conv3×3(x)))."""

    def __init__(self, in_features: int, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.conv = Conv3x3(in_features, features, dtype=dtype, rngs=rngs)
        self.activate = NormRelu(features, dtype=dtype, rngs=rngs)

    def __call__(self, x: FeatureMap) -> FeatureMap:
        return self.activate(self.conv(x))


class ResNet9(nnx.Module):
    """Four 3×3 layers, three of them halved by max pooling, and two residual pairs; pooled by the maximum."""

    def __init__(self, in_features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        def layer(i: int, o: int) -> ConvNormRelu:
            return ConvNormRelu(i, o, dtype=dtype, rngs=rngs)

        first, second, third, fourth = WIDTHS
        self.stem = layer(in_features, first)
        self.second = layer(first, second)
        self.residual_second = nnx.List([layer(second, second), layer(second, second)])
        self.third = layer(second, third)
        self.fourth = layer(third, fourth)
        self.residual_fourth = nnx.List([layer(fourth, fourth), layer(fourth, fourth)])
        self.features = fourth

    def __call__(self, x: FeatureMap) -> FeatureMap:
        x = _halve(self.second(self.stem(x)))
        x = x + _chain(self.residual_second, x)
        x = _halve(self.fourth(_halve(self.third(x))))
        return x + _chain(self.residual_fourth, x)

    @staticmethod
    def pool(x: FeatureMap) -> Inexact[Array, "batch feature"]:
        return x.max((1, 2))


def _chain(layers: Iterable[ConvNormRelu], x: FeatureMap) -> FeatureMap:
    for layer in layers:
        x = layer(x)
    return x


def _halve(x: FeatureMap) -> FeatureMap:
    return nnx.max_pool(x, (2, 2), (2, 2), padding="SAME")
