"""Multimodal compact bilinear pooling: the outer product, sketched in the Fourier domain."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from fusion_bench.fusion.base import FeatureFusion, Features, Joint
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.layers import power_normalize, product


class Drawn(nnx.Variable):
    """Numbers that are drawn once and not trained."""


@register("compact-bilinear", family="tensor", reference="MCB: Fukui et al. 2016, arXiv:1606.01847")
class CompactBilinear(FeatureFusion):
    """Circular convolution of count sketches: normalise(FFT⁻¹(∏_m FFT(ψ_m(x_m)))), ψ(x)_j = Σ_{i: p_i = j} s_i x_i.

    Each p_i in 0 … width-1 and each sign s_i is drawn once. The result is a count sketch of the outer product of all
    x_m: inner products are kept on average. Normalised by a signed square root and by its length. Two modalities in the
    paper, as many as there are here. Parameters: none. The paper's width is 16,000. A sketch is a product with a matrix
    of which each row has one entry: (d_m + 1) · width products, where the published algorithm scatters d_m sums.

    x_m = [1; h_m / (4 √d_m)], and without `one` x_m = h_m, as in the paper, whose features come out of a ReLU. Ours
    have mean 0, so that their product holds neither of them: on `shapes` (tiny, 4 epochs, one seed) h_m itself gave
    42 %, with the 1 it was 84 %.
    """

    def __init__(self, blueprint: Blueprint, *, width: int = 1024, one: bool = True):
        super().__init__(blueprint)
        self.one = one
        self.sketches = nnx.Dict(
            {
                name: Drawn(draw_sketch(d + one, width, blueprint.rngs(f"compact-bilinear/{name}").params()))
                for name, d in self.feature_widths.items()
            }
        )
        self.head = blueprint.head(width)

    def fuse(self, features: Features) -> Joint:
        return power_normalize(self.product(features))

    def product(self, features):
        """Returns the sketch of the outer product, [batch, width], before it is normalised."""
        sketched = [self._sketch(name, h) for name, h in features.items()]
        spectrum = product(jnp.fft.rfft(sketch) for sketch in sketched)
        return jnp.fft.irfft(spectrum, sketched[0].shape[-1])

    def _sketch(self, name, h):
        # By a matrix; then in float32, in which every backend has a Fourier transform.
        x = with_one(h) if self.one else h
        return (x @ self.sketches[name][...].astype(x.dtype)).astype(jnp.float32)


def with_one(h):
    """[1; h / (4 √d)]."""
    return jnp.concatenate([jnp.ones_like(h[:, :1]), h / (4 * math.sqrt(h.shape[1]))], axis=-1)


def draw_sketch(features: int, width: int, key: jax.Array) -> jax.Array:
    """Returns a matrix [feature, width] with one entry, 1 or -1, in each row."""
    key_place, key_sign = jax.random.split(key)
    places = jax.random.randint(key_place, (features,), 0, width)
    signs = jax.random.rademacher(key_sign, (features,), jnp.float32)
    return signs[:, None] * jax.nn.one_hot(places, width)
