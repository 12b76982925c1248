"""Feature-wise linear modulation: the text scales and shifts the channels of the image's CNN."""

import itertools

import jax.numpy as jnp
from flax import nnx

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.cnn import Modulation
from fusion_bench.models.encoders import GridEncoder


@register("film", family="intermediate", reference="FiLM: Perez et al. 2017, arXiv:1709.07871")
class Film(Strategy):
    """The other modalities modulate the image's CNN: in every block, relu(γ ⊙ norm(conv(x)) + β).

    [γ - 1; β] is, for each block, a linear map of the other modalities' pooled features, side by side; it starts at
    zero, so the CNN starts as it is alone. Needs a grid; any number of other modalities. Parameters beside the
    encoders: (Σ_m d_m + 1) · 2 Σ_block width, over the modalities that modulate. The paper has 4 residual blocks of
    128 channels, a GRU of 4,096 to read the text, and no scale and shift of the normalisation's own; here they are the
    encoders of every strategy, which have them.
    """

    def __init__(self, blueprint: Blueprint):
        self.base = blueprint.largest_grid
        self.encoders = nnx.Dict({name: blueprint.encoder(name) for name in blueprint.modalities})
        cnn = self.encoders[self.base].encoder
        assert isinstance(cnn, GridEncoder)
        self.widths = cnn.cnn.block_widths
        features = sum(encoder.features for name, encoder in self.encoders.items() if name != self.base)
        self.modulate = nnx.Linear(
            features,
            2 * sum(self.widths),
            kernel_init=nnx.initializers.zeros_init(),
            dtype=blueprint.dtype,
            rngs=blueprint.rngs("film"),
        )
        self.head = blueprint.head(self.encoders[self.base].features)

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        others = [e(inputs[name]) for name, e in self.encoders.items() if name != self.base]
        numbers = self.modulate(jnp.concatenate(others, axis=-1))
        scales, shifts = (
            jnp.split(half, list(itertools.accumulate(self.widths))[:-1], axis=-1)
            for half in jnp.split(numbers, 2, axis=-1)
        )
        modulations = [Modulation(1 + scale, shift) for scale, shift in zip(scales, shifts, strict=True)]
        return Outputs(self.head(self.encoders[self.base](inputs[self.base], modulations=modulations)))
