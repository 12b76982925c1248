"""MUTAN: Tucker fusion with a core of low rank."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start, normal_weight, widths_of
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import product


@register("mutan", reference="MUTAN: Ben-younes et al. 2017, arXiv:1705.06676", size="width")
class Mutan(nnx.Module):
    """A sum of products of projections: Σ_r ∏_m (z_m M_m^r), z_m = tanh(W_m h_m + b_m), M_m^r of width × out_features.

    Each slice of the core tensor of `tucker` has this rank; the head's first layer takes the place of the paper's final
    linear map. Two modalities in the paper, any number here. Parameters: Σ_m (d_m + 1) · width + M · rank · width ·
    out_features. The paper has rank 5 and widths 310 and 620 with attention over the image (`widths`), rank 10 and
    widths 360 and 360 without, and factors that start around zero (`start="zero"`); its dropout is left out here. The
    authors' code has a bias in z_m M_m^r (`bias`, M · rank · out_features parameters more), later without the tanh
    (`bounded=False`).
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        rank: int = 5,
        width: int = 32,
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
        self.factors = nnx.Dict(
            {name: normal_weight((rank, w, out_features), fan_in=w, rngs=rngs) for name, w in of_each.items()}
        )
        zeros = jnp.zeros((rank, out_features), jnp.float32)
        self.biases = nnx.Dict({name: nnx.Param(zeros) for name in of_each} if bias else {})
        self.bounded = bounded
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        return product(self._factor(name, z) for name, z in self.projections(features).items()).sum(1)

    def _factor(self, name: str, z: Inexact[Array, "batch _"]) -> Inexact[Array, "batch rank feature"]:
        z = jnp.tanh(z) if self.bounded else z
        terms = jnp.einsum("bi,rik->brk", z, self.factors[name][...].astype(z.dtype))
        return terms + self.biases[name][...].astype(z.dtype) if self.biases else terms
