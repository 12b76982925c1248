"""Building blocks of operators: linear maps of all modalities to one width, and the shapes that operators take."""

import math
from collections.abc import Iterable, Mapping
from typing import Literal

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
    """A linear map of each modality's features: z_m = W_m h_m + b_m, in alphabetical order.

    `out_features` is one width for all, or that of each modality. For features of variance 1, entries of z_m start with
    variance `variance` around `bias`; None means a variance at which z_m has length 1 on average, and no bias.
    """

    def __init__(
        self,
        in_features: Sizes,
        out_features: int | Sizes,
        *,
        variance: float | None = 1.0,
        bias: float | None = 0.0,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            scale = 1 / outputs if variance is None else variance
            return nnx.Linear(
                inputs,
                outputs,
                use_bias=bias is not None,
                kernel_init=nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal"),
                bias_init=nnx.initializers.constant(bias or 0.0),
                dtype=dtype,
                rngs=rngs,
            )

        outputs = dict.fromkeys(in_features, out_features) if isinstance(out_features, int) else out_features
        super().__init__({name: linear(in_features[name], outputs[name]) for name in sorted(in_features)})

    def __call__(self, features: Mapping[str, Inexact[Array, "batch *_"]]) -> dict[str, Inexact[Array, "batch *_"]]:
        """Returns z_m of every modality."""
        return {name: linear(features[name]) for name, linear in self.items()}


Start = Literal["one", "zero"]
"""The value around which factors start."""


class Factors(Projections):
    """Projections whose results are multiplied: their entries start around 1, with a standard deviation of 1/2.

    The product then starts as 1 + a_1 + a_2 + a_1 a_2: a sum with a small interaction. With `start="zero"`, as the
    published operators start, entries have mean 0 and variance 1, and the product is the interaction alone: that is
    then learned early, and the effect of each modality by itself late.
    """

    def __init__(
        self,
        in_features: Sizes,
        out_features: int | Sizes,
        *,
        start: Start = "one",
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        variance, bias = {"one": (0.25, 1.0), "zero": (1.0, 0.0)}[start]
        super().__init__(in_features, out_features, variance=variance, bias=bias, dtype=dtype, rngs=rngs)


def widths_of(names: Iterable[str], width: int, widths: str) -> dict[str, int]:
    """Returns the width of each modality: `width`, unless `widths` names another: "image=32+text=128".

    Raises:
      ValueError: `widths` names an unknown modality, or a width is no whole number above 0.
    """
    found = dict.fromkeys(sorted(names), width)
    for item in filter(None, widths.split("+")):
        name, _, value = item.partition("=")
        if name not in found or not value.isdecimal() or int(value) == 0:
            known = "+".join(f"{name}={width}" for name in found)
            raise ValueError(f"widths={widths} should be like {known}")
        found[name] = int(value)
    return found


def normal_weight(shape: tuple[int, ...], *, fan_in: int, rngs: nnx.Rngs) -> nnx.Param:
    """Returns a parameter of normal values with variance 1 / fan_in."""
    return nnx.Param(nnx.initializers.normal(1 / math.sqrt(fan_in))(rngs.params(), shape, jnp.float32))


def pair(in_features: Sizes) -> tuple[str, str]:
    """Returns the names of two modalities in alphabetical order; raises ValueError if there are not two."""
    if len(in_features) != 2:
        raise ValueError(f"it is defined for two modalities; these are {', '.join(sorted(in_features))}")
    first, second = sorted(in_features)
    return first, second
