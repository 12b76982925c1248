"""Concatenation: the usual intermediate fusion."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Features, Joint, Sizes
from fusion_bench.fusion.registry import register


@register("concat", reference="Ngiam et al., Multimodal Deep Learning, ICML 2011", canonical=True)
class Concat(nnx.Module):
    """Features side by side: [h_1; …; h_M], of Σ_m d_m entries. Any number of modalities. Parameters: none."""

    def __init__(self, in_features: Sizes, *, dtype: Dtype = None, rngs: nnx.Rngs | None = None):
        self.modalities = tuple(sorted(in_features))
        self.out_features = sum(in_features.values())
        self.dtype = dtype

    def __call__(self, features: Features) -> Joint:
        return jnp.concatenate([features[name] for name in self.modalities], axis=-1, dtype=self.dtype)
