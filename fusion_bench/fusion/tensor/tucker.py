"""Tucker fusion: a full core tensor between projected features."""

import math

import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start, normal_weight, widths_of
from fusion_bench.fusion.registry import register


@register("tucker", reference="Tucker form of MUTAN: Ben-younes et al. 2017, arXiv:1705.06676", size="width")
class Tucker(nnx.Module):
    """A core tensor between bounded projections: 𝐂 ×_1 z_1 … ×_M z_M, z_m = tanh(W_m h_m + b_m).

    𝐂 has width^M · out_features entries; the head's first layer takes the place of the paper's final linear map. Two
    modalities in the paper, any number here. Parameters: Σ_m (d_m + 1) · width + width^M · out_features. The paper
    factorises the core instead, and its factors start around zero (`start="zero"`); the authors' code gives the core a
    bias (`bias`, out_features parameters more), later without the tanh (`bounded=False`). `widths` sets each
    modality's own.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        width: int = 16,
        widths: str = "",
        out_features: int = 64,
        bounded: bool = True,
        bias: bool = False,
        start: Start = "one",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        of_each = widths_of(in_features, width, widths)
        self.projections = Factors(in_features, of_each, start=start, dtype=dtype, rngs=rngs)
        shape = tuple(of_each.values())
        self.core = normal_weight((*shape, out_features), fan_in=math.prod(shape), rngs=rngs)
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if bias else None
        self.bounded = bounded
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        first, *others = (jnp.tanh(z) if self.bounded else z for z in self.projections(features).values())
        # One modality at a time: [batch, remaining axes of the core].
        joint = jnp.tensordot(first, self.core[...].astype(first.dtype), axes=1)
        for z in others:
            joint = jnp.einsum("bi,bi...->b...", z, joint)
        return joint if self.bias is None else joint + self.bias[...].astype(joint.dtype)
