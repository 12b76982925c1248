"""Feature-wise linear modulation: the text scales and shifts the channels of the image's CNN."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.layers import Dtype, Features, Sizes
from fusion_bench.fusion.registry import register
from fusion_bench.models.cnn import Modulation
from fusion_bench.models.encoders import GridEncoder, PooledEncoder


class FiLM(nnx.Module):
    """Scales and shifts of blocks of channels from features: [γ_1 - 1; …; β_1; …] = W [h_1; …; h_M] + b.

    W and b start at zero, so that γ_k = 1 and β_k = 0 modulate nothing. Block k has width_k channels. Parameters:
    (Σ_m d_m + 1) · 2 Σ_k width_k.
    """

    def __init__(self, in_features: Sizes, widths: Sequence[int], *, dtype: Dtype = None, rngs: nnx.Rngs):
        self.modalities = tuple(sorted(in_features))
        self.ends = tuple(itertools.accumulate(widths))
        zeros = nnx.initializers.zeros_init()
        features, numbers = sum(in_features.values()), 2 * sum(widths)
        self.linear = nnx.Linear(features, numbers, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, features: Features) -> list[Modulation]:
        """Returns (γ, β) of each block, [batch, channel]."""
        numbers = self.linear(jnp.concatenate([features[name] for name in self.modalities], axis=-1))
        scales, shifts = (jnp.split(half, self.ends[:-1], axis=-1) for half in jnp.split(numbers, 2, axis=-1))
        return [Modulation(1 + scale, shift) for scale, shift in zip(scales, shifts, strict=True)]


@register("film", reference="FiLM: Perez et al. 2017, arXiv:1709.07871", needs_grid=True)
class FilmFusion(Strategy):
    """The other modalities modulate the image's CNN: in every block, relu(γ ⊙ norm(conv(x)) + β).

    γ and β are linear maps of the other modalities' pooled features, as in `FiLM`. Needs a grid; takes any number of
    other modalities. Parameters beside the encoders: those of `FiLM`, over the modalities that modulate. The paper has
    4 residual blocks of 128 channels, each after a 1×1 convolution, coordinate maps, a GRU of 4,096 units for the text,
    and normalisation without its own scale and shift. Here encoders and normalisation are those of every strategy.
    """

    def __init__(self, blueprint: Blueprint):
        self.base = blueprint.largest_grid
        self.encoders = nnx.Dict({name: blueprint.encoder(name) for name in blueprint.modalities})
        cnn = self.encoders[self.base].encoder
        assert isinstance(cnn, GridEncoder)
        widths = {name: encoder.features for name, encoder in self.encoders.items() if name != self.base}
        self.modulate = FiLM(widths, cnn.cnn.block_widths, dtype=blueprint.dtype, rngs=blueprint.rngs("operator"))
        self.head = blueprint.head(self.encoders[self.base].features)

    def encoder_of(self, modality: str) -> PooledEncoder | None:
        return None if modality == self.base else self.encoders[modality]

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        others = {name: e(inputs[name]) for name, e in self.encoders.items() if name != self.base}
        encoder = self.encoders[self.base]
        return Outputs(self.head(encoder(inputs[self.base], modulations=self.modulate(others))))
