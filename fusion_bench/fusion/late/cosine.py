"""Cosine similarities of features and class weights, added over modalities."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Inexact

from fusion_bench.fields import Positive
from fusion_bench.fusion.base import LogitFusion, Logits, ModalityLogits
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import normalize, total


class CosineHead(nnx.Module):
    """scale · cos(W_c, relu(V h + b)) for each class c; V, b and W start as those of the usual head."""

    def __init__(self, blueprint: Blueprint, features: int, name: str, scale: float):
        head = blueprint.head(features, name)
        self.hidden, self.scale = head.hidden, scale
        self.kernel = nnx.Param(head.scores.kernel[...])

    def __call__(self, features: Inexact[Array, "batch feature"]) -> Float[Array, "batch class"]:
        hidden = normalize(jax.nn.relu(self.hidden(features)), axis=-1)
        return self.scale * (hidden @ normalize(self.kernel[...], axis=0).astype(hidden.dtype)).astype(jnp.float32)


@register("late-cosine", reference="MMCosine: Xu et al. 2023, arXiv:2303.05338")
class LateCosine(LogitFusion):
    """Sum of the modalities' cosines, trained jointly: logits_c = scale · Σ_m cos(W_m,c, relu(V_m h_m + b_m)).

    Neither the length of a modality's features nor that of its class weights counts, so no modality can win by growing
    faster. Any number of modalities. Parameters: the last layers of the heads have no bias, M · C fewer than
    `late-mean`. The paper has linear heads, and scales 10 and 15.
    """

    def __init__(self, blueprint: Blueprint, *, scale: Positive = 10.0):
        super().__init__(blueprint)
        member: Any
        for name, member in self.members.items():
            member.head = CosineHead(blueprint, member.encoder.features, name, scale)

    def fuse(self, logits: ModalityLogits) -> Logits:
        return total(logits.values())
