"""Block-term fusion: features in chunks, each fused with a low-rank tensor."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.fusion.layers import Dtype, Factors, Features, Joint, Sizes, Start, normal_weight
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product


@register("block", reference="BLOCK: Ben-younes et al. 2019, arXiv:1902.00038")
class BlockTerm(nnx.Module):
    """A block-term decomposition: chunk c of the result is normalise(Σ_r ∏_m (z_m^c M_m^{c,r})).

    z_m = W_m h_m + b_m is as wide as the result and cut into as many chunks, with `even=False` the last one narrower;
    normalise is a signed square root and a division by the length. Two modalities in the paper, any number
    here. Parameters: Σ_m (d_m + 1) · out_features + M · rank · Σ_c size_c², which is M · rank · out_features² / chunks
    for equal chunks. The authors' code has width 1,600, 20 chunks and rank 15 by default, 18 chunks in its
    configuration for VQA 2.0, factors that start around zero (`start="zero"`), biases of z_m^c M_m^{c,r} (`bias`,
    M · rank · out_features parameters more) and dropout, which is left out here. Raises ValueError if the width
    is not divisible by the chunks, or a chunk would be empty.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        out_features: int = 64,
        chunks: int = 4,
        rank: int = 4,
        even: bool = True,
        bias: bool = False,
        start: Start = "one",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        if even and out_features % chunks:
            raise ValueError(f"out_features={out_features} is not divisible by {chunks} chunks")
        self.size = -(-out_features // chunks)
        equal, last = divmod(out_features, self.size)
        if equal + (last > 0) != chunks:
            raise ValueError(f"out_features={out_features} cannot be cut into {chunks} chunks of {self.size}")
        self.projections = Factors(in_features, out_features, start=start, dtype=dtype, rngs=rngs)

        def factors(count: int, size: int) -> Any:
            shape = (count, rank, size, size)
            return nnx.Dict({name: normal_weight(shape, fan_in=size, rngs=rngs) for name in self.projections})

        self.factors = factors(equal, self.size)
        self.last = factors(1, last) if last else None
        zeros = jnp.zeros((rank, out_features), jnp.float32)
        self.biases = nnx.Dict({name: nnx.Param(zeros) for name in self.projections} if bias else {})
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        projected = self.projections(features)
        equal = self.out_features // self.size * self.size
        joint = [self._chunks(self.factors, projected, 0, equal)]
        if self.last is not None:
            joint.append(self._chunks(self.last, projected, equal, self.out_features))
        return jnp.concatenate(joint, axis=-1)

    def _chunks(self, factors: Any, projected: Features, start: int, end: int) -> Inexact[Array, "batch {end}-{start}"]:
        """Returns the chunks, all of one size, of a part of the result."""

        def factor(name: str) -> Inexact[Array, "batch chunk rank feature"]:
            kernel = factors[name][...]
            count, rank = kernel.shape[:2]
            z = projected[name][:, start:end].reshape(-1, count, kernel.shape[2])
            terms = jnp.einsum("bci,crik->bcrk", z, kernel.astype(z.dtype))
            if not self.biases:
                return terms
            bias = self.biases[name][:, start:end].reshape(rank, count, -1).swapaxes(0, 1)
            return terms + bias.astype(z.dtype)

        joint = product(factor(name) for name in self.projections).sum(2)
        return power_normalize(joint).reshape(joint.shape[0], end - start)
