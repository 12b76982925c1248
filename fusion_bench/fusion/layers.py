"""Building blocks of operators: linear maps of all modalities to one width, and the shapes that operators take."""

import functools
import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Inexact

Dtype = DTypeLike | None
"""The dtype of a layer's computation; None for that of its inputs and parameters, as in Flax."""
Sizes = Mapping[str, int]
"""Width of each modality's features, by name."""
Features = Mapping[str, Inexact[Array, "batch _"]]
"""Features h_m of all modalities, by name."""
Tokens = Mapping[str, Inexact[Array, "batch _ _"]]
"""Tokens H_m of all modalities, [batch, token, feature], by name."""
Masks = Mapping[str, Bool[Array, "batch _"]]
"""True where there is a token, by modality."""
Joint = Inexact[Array, "batch {self.out_features}"]
"""The result of an operator."""


class Projections(nnx.Dict[nnx.Linear]):
    """A linear map from each modality's features to one width: z_m = W_m h_m + b_m, in alphabetical order.

    For features of variance 1, entries of z_m start with variance `variance` around `bias`; None means no bias.
    """

    def __init__(
        self,
        in_features: Sizes,
        out_features: int,
        *,
        variance: float = 1.0,
        bias: float | None = 0.0,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        linear = functools.partial(
            nnx.Linear,
            out_features=out_features,
            use_bias=bias is not None,
            kernel_init=nnx.initializers.variance_scaling(variance, "fan_in", "truncated_normal"),
            bias_init=nnx.initializers.constant(bias or 0.0),
            dtype=dtype,
            rngs=rngs,
        )
        super().__init__({name: linear(in_features[name]) for name in sorted(in_features)})

    def __call__(self, features: Mapping[str, Inexact[Array, "batch *_"]]) -> dict[str, Inexact[Array, "batch *_"]]:
        """Returns z_m of every modality."""
        return {name: linear(features[name]) for name, linear in self.items()}


class Factors(Projections):
    """Projections whose results are multiplied: their entries start around 1, with a standard deviation of 1/2.

    The product then starts as 1 + a_1 + a_2 + a_1 a_2: a sum with a small interaction. Around 0, where the published
    operators start, it is the interaction alone: that is then learned early, and the effect of each modality by itself
    late.
    """

    def __init__(self, in_features: Sizes, out_features: int, *, dtype: Dtype = None, rngs: nnx.Rngs):
        super().__init__(in_features, out_features, variance=0.25, bias=1.0, dtype=dtype, rngs=rngs)


def normal_weight(shape: tuple[int, ...], *, fan_in: int, rngs: nnx.Rngs) -> nnx.Param:
    """Returns a parameter of normal values with variance 1 / fan_in."""
    return nnx.Param(nnx.initializers.normal(1 / math.sqrt(fan_in))(rngs.params(), shape, jnp.float32))


def pair(in_features: Sizes) -> tuple[str, str]:
    """Returns the names of two modalities in alphabetical order; raises ValueError if there are not two."""
    if len(in_features) != 2:
        raise ValueError(f"it is defined for two modalities; these are {', '.join(sorted(in_features))}")
    first, second = sorted(in_features)
    return first, second
