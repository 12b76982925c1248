"""Gated multimodal unit."""

import jax
import jax.numpy as jnp

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


@register("gmu", family="intermediate", reference="GMU: Arevalo et al. 2017, arXiv:1702.01992")
class GatedMultimodalUnit(FeatureFusion):
    """Gates choose between bounded features: Σ_m z_m ⊙ tanh(W_m h_m), z_m = σ(V_m [h_1; …; h_M]).

    With two modalities there is one gate, and z_2 = 1 - z_1; with more, each has its own, as the paper
    generalises it. No biases. Parameters: Σ_m d_m · width · (1 + G), with G = 1 gate for two modalities, else M.
    The paper's width is 512.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 64):
        super().__init__(blueprint)
        self.projections = blueprint.projections(self.feature_widths, width, "gmu", bias=None)
        total, names = sum(self.feature_widths.values()), list(self.feature_widths)
        gated = names[:1] if len(names) == 2 else names
        gates = dict.fromkeys(gated, total)
        self.gates = blueprint.projections(gates, width, "gmu/gate", bias=None)
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        everything = jnp.concatenate(list(features.values()), axis=-1)
        gates = {name: jax.nn.sigmoid(gate(everything)) for name, gate in self.gates.items()}
        if len(features) == 2:
            first, second = features
            gates[second] = 1 - gates[first]
        return total(gates[name] * jnp.tanh(self.projections[name](h)) for name, h in features.items())
