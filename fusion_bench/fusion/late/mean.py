"""Late fusion, trained jointly: the mean of the modalities' scores, and what its kin share."""

from abc import abstractmethod
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.interface import Blueprint, Outputs, Strategy
from fusion_bench.fusion.registry import register
from fusion_bench.fusion.unimodal.only import unimodal_models


class LateFusion(Strategy):
    """An encoder and a head for each modality, trained jointly on what `combine` makes of their scores."""

    def __init__(self, blueprint: Blueprint):
        self.members = unimodal_models(blueprint)

    @abstractmethod
    def combine(self, logits: Mapping[str, Float[Array, "batch class"]]) -> Float[Array, "batch class"]:
        """Returns the joint scores of the modalities' scores."""

    def unimodal_logits(self, inputs: Inputs) -> Mapping[str, Float[Array, "batch class"]]:
        """Returns each modality's own scores."""
        return {name: member(inputs).logits for name, member in self.members.items()}

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        logits = self.unimodal_logits(inputs)
        return Outputs(self.combine(logits), logits)


@register(
    "late-mean",
    family="late",
    reference="geometric mean, a product rule: Kittler et al., TPAMI 20(3), 1998",
    canonical=True,
)
class LateMean(LateFusion):
    """Mean of the modalities' logits, trained jointly: logits = Σ_m head_m(h_m) / M.

    The softmax of a mean of logits is the normalised geometric mean of the modalities' probabilities. Any number of
    modalities. Parameters of the join: none.
    """

    def combine(self, logits):
        return jnp.stack(list(logits.values())).mean(0)
