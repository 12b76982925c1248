"""Late fusion, trained jointly: the mean of the modalities' scores."""

import jax.numpy as jnp
from flax import nnx

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.interface import Blueprint, Outputs, Strategy
from fusion_bench.fusion.registry import register
from fusion_bench.fusion.unimodal.only import Unimodal


@register("late-mean", family="late", reference="sum rule: Kittler et al., TPAMI 20(3), 1998", canonical=True)
class LateMean(Strategy):
    """Mean of the modalities' logits, trained jointly: logits = Σ_m head_m(h_m) / M.

    The softmax of a mean of logits is the normalised geometric mean of the modalities' probabilities.
    """

    def __init__(self, blueprint: Blueprint):
        self.members = nnx.Dict({name: Unimodal(blueprint, modality=name) for name in blueprint.modalities})

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        logits = {name: member(inputs).logits for name, member in self.members.items()}
        return Outputs(jnp.stack(list(logits.values())).mean(0), logits)
