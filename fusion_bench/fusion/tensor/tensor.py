"""Tensor fusion network: the outer product of all modalities' features."""

import functools

import jax.numpy as jnp

from fusion_bench.fusion.base import FeatureFusion, Features, Joint, Logits
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register


@register("tensor", family="tensor", reference="TFN: Zadeh et al. 2017, arXiv:1707.07250", canonical=True)
class Tensor(FeatureFusion):
    """Outer product of features with a 1 appended: vec([1; z_1] ⊗ … ⊗ [1; z_M]), z_m = W_m h_m + b_m.

    The 1 keeps every product of fewer modalities: the features alone, pairs, and so on. Any number of modalities.
    Parameters: Σ_m (d_m + 1) · width; the head sees (width + 1)^M features. The paper's widths are 128 for text and 32
    for vision and sound. The product is made only where it is smaller than what the head's first layer makes of its
    kernel and one factor, hidden ≥ width + 1; else that layer takes one factor after another. Each z_m starts with the
    length of its 1, on average: longer, the many products would drown the features for most of a short training.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 16):
        super().__init__(blueprint)
        self.projections = blueprint.projections(self.feature_widths, width, "tensor", variance=1 / width)
        self.head = blueprint.head((width + 1) ** len(self.encoders))
        self.makes_product = width + 1 <= blueprint.widths.hidden

    def classify(self, features: Features) -> Logits:
        """Returns the class scores, without the product where making it costs more than it saves."""
        if self.makes_product:
            return super().classify(features)
        factors = self.factors(features)
        layer, first = self.head.hidden, factors[0]
        assert layer.bias is not None
        kernel = layer.kernel[...].astype(first.dtype).reshape(*(z.shape[1] for z in factors), -1)
        hidden = jnp.tensordot(first, kernel, axes=1)
        for z in factors[1:]:
            hidden = jnp.einsum("bi,bi...->b...", z, hidden)
        return self.head.from_hidden(hidden + layer.bias[...].astype(first.dtype))

    def fuse(self, features: Features) -> Joint:
        return functools.reduce(_outer, self.factors(features))

    def factors(self, features):
        """Returns [1; z_m] of every modality, [batch, width + 1]."""

        def with_one(z):
            return jnp.concatenate([jnp.ones_like(z[:, :1]), z], axis=-1)

        return [with_one(self.projections[name](h)) for name, h in features.items()]


def _outer(a, b):
    """[batch, i], [batch, j] → [batch, i · j]."""
    return (a[:, :, None] * b[:, None, :]).reshape(a.shape[0], -1)
