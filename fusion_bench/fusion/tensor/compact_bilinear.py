"""Multimodal compact bilinear pooling: the outer product, sketched in the Fourier domain."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Inexact, Key

from fusion_bench.fusion.layers import Dtype, Features, Joint, Sizes
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product
from fusion_bench.models.portable import is_portable


class Drawn(nnx.Variable):
    """Random numbers that are drawn once and not trained."""


@register("compact-bilinear", reference="MCB: Fukui et al. 2016, arXiv:1606.01847")
class CompactBilinear(nnx.Module):
    """Circular convolution of count sketches: normalise(FFT⁻¹(∏_m FFT(ψ_m(x_m)))), ψ(x)_j = Σ_{i: p_i = j} s_i x_i.

    Each p_i in 0 … out_features - 1 and each sign s_i is drawn once. The result is a count sketch of the outer product
    of all x_m, whose inner products it keeps on average; normalise is a signed square root and a division by the
    length. Two modalities in the paper, any number here. Parameters: none. The paper's width is 16,000. A sketch is
    computed as a product with a matrix of one entry per row, which takes (d_m + 1) · out_features multiplications,
    where the published algorithm scatters d_m sums.

    x_m = [1; h_m / (4 √d_m)]; without `one` x_m = h_m, as in the paper, whose image features are non-negative and
    divided by their length. Features of mean 0 need the 1, as their product alone determines neither of them.
    """

    def __init__(
        self, in_features: Sizes, *, out_features: int = 1024, one: bool = True, dtype: Dtype = None, rngs: nnx.Rngs
    ):
        widths = {name: in_features[name] + one for name in sorted(in_features)}
        drawn = {name: Drawn(draw_sketch(width, out_features, rngs.params())) for name, width in widths.items()}
        self.sketches = nnx.Dict(drawn)
        self.one = one
        self.dtype = dtype
        self.out_features = out_features

    def __call__(self, features: Features) -> Joint:
        return power_normalize(self.sketch(features))

    def sketch(self, features: Features) -> Float[Array, "batch {self.out_features}"]:
        """Returns the sketch of the outer product, before it is normalised."""
        sketched = [self._sketch(features[name], matrix) for name, matrix in self.sketches.items()]
        if is_portable():
            return functools.reduce(circular_convolution, sketched)
        spectrum = product(jnp.fft.rfft(sketch) for sketch in sketched)
        return jnp.fft.irfft(spectrum, self.out_features)

    def _sketch(self, h: Inexact[Array, "batch _"], matrix: Drawn) -> Float[Array, "batch _"]:
        x = jnp.asarray(h, self.dtype)
        if self.one:
            x = jnp.concatenate([jnp.ones_like(x[:, :1]), x / (4 * math.sqrt(x.shape[1]))], axis=-1)
        # The product is in the layer's dtype; every backend has a Fourier transform in float32.
        return (x @ matrix[...].astype(x.dtype)).astype(jnp.float32)


def circular_convolution(
    x: Float[Array, "batch feature"], y: Float[Array, "batch feature"]
) -> Float[Array, "batch feature"]:
    """Returns z_k = Σ_j x_j y_{k - j mod n}, by the real Fourier transform as products with matrices."""
    width = x.shape[1]
    half = width // 2 + 1
    angles = 2 * np.pi * (np.outer(np.arange(width), np.arange(half)) % width) / width
    cosines, sines = np.float32(np.cos(angles)), np.float32(np.sin(angles))
    (a, b), (c, d) = ((each @ cosines, each @ sines) for each in (x, y))  # of a - ib and c - id
    weights = np.full(half, 2 / width)
    weights[[0, -1] if width % 2 == 0 else [0]] /= 2  # frequencies that are their own conjugates
    return (a * c - b * d) @ np.float32(cosines * weights).T + (a * d + b * c) @ np.float32(sines * weights).T


def draw_sketch(features: int, width: int, key: Key[Array, ""]) -> Float[Array, "features width"]:
    """Returns a matrix [feature, width] with one entry, 1 or -1, in each row."""
    key_place, key_sign = jax.random.split(key)
    places = jax.random.randint(key_place, (features,), 0, width)
    signs = jax.random.rademacher(key_sign, (features,), jnp.float32)
    return signs[:, None] * jax.nn.one_hot(places, width)
