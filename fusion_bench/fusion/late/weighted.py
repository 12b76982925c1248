"""A weight for each modality, learned with the rest."""

import jax
import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import LogitFusion, Logits, ModalityLogits
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


@register("late-weighted", reference="logarithmic opinion pool: Genest and Zidek, Statistical Science 1(1), 1986")
class LateWeighted(LogitFusion):
    """Weighted mean of the modalities' logits, trained jointly: logits = Σ_m w_m z_m, w = softmax(a).

    Every a_m starts at zero, so every weight at 1 / M. Any number of modalities. Parameters: M.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__(blueprint)
        self.log_weights = nnx.Param(jnp.zeros((len(blueprint.modalities),)))

    def fuse(self, logits: ModalityLogits) -> Logits:
        weights = jax.nn.softmax(self.log_weights[...])
        return total(weight * scores for weight, scores in zip(weights, logits.values(), strict=True))
