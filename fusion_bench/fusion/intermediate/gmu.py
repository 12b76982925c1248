"""Gated multimodal unit."""

import jax
import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Features, Joint, Projections, Sizes
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import total


@register("gmu", reference="GMU: Arevalo et al. 2017, arXiv:1702.01992")
class GatedMultimodalUnit(nnx.Module):
    """Gates choose between bounded features: Σ_m z_m ⊙ tanh(W_m h_m), z_m = σ(V_m [h_1; …; h_M]).

    With two modalities there is one gate, and z_2 = 1 - z_1; with more, each has its own, as the paper generalises
    it. No biases. Any number of modalities. Parameters: Σ_m d_m · out_features · (1 + G), with G = 1 gate for two
    modalities, else G = M. The paper's width is 512; the authors' code feeds the gates W_m h_m instead of h_m
    (`projected=True`, then a gate has M · out_features² parameters).
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        out_features: int = 64,
        projected: bool = False,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        names = sorted(in_features)
        width = len(names) * out_features if projected else sum(in_features.values())
        self.projected = projected
        gated = names[:1] if len(names) == 2 else names
        self.projections = Projections(in_features, out_features, bias=None, dtype=dtype, rngs=rngs)
        self.gates = Projections(dict.fromkeys(gated, width), out_features, bias=None, dtype=dtype, rngs=rngs)
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        names, z = list(self.projections), self.projections(features)
        seen = z if self.projected else features
        everything = jnp.concatenate([seen[name] for name in names], axis=-1)
        gates = {name: jax.nn.sigmoid(gate(everything)) for name, gate in self.gates.items()}
        if len(names) == 2:
            gates[names[1]] = 1 - gates[names[0]]
        return total(gates[name] * jnp.tanh(each) for name, each in z.items())
