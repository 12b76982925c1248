"""Multimodal transfer module: squeeze and excitation across modalities, inside the encoders."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Inexact

from fusion_bench.data.batches import Inputs
from fusion_bench.errors import UserError
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.layers import Dtype, Features, Sizes
from fusion_bench.fusion.registry import register
from fusion_bench.models.encoders import Encoded, GridEncoder
from fusion_bench.models.layers import masked_mean


class MultimodalTransfer(nnx.Module):
    """Gates for the channels of each modality from the means of all: 2 σ(W_m relu(W [s_1; …; s_M] + b) + b_m).

    W maps to a `ratio`-th of all channels. Parameters with D = Σ_m d_m and Z = D // ratio: (D + 1) · Z + (Z + 1) · D.
    """

    def __init__(self, in_features: Sizes, *, ratio: int = 4, dtype: Dtype = None, rngs: nnx.Rngs):
        total = sum(in_features.values())
        squeezed = max(1, total // ratio)
        self.squeeze = nnx.Linear(total, squeezed, dtype=dtype, rngs=rngs)
        self.excite = nnx.Dict(
            {name: nnx.Linear(squeezed, in_features[name], dtype=dtype, rngs=rngs) for name in sorted(in_features)}
        )

    def __call__(self, features: Features) -> dict[str, Inexact[Array, "batch _"]]:
        """Returns the gates of each modality, [batch, channel], around 1."""
        means = jnp.concatenate([features[name] for name in self.excite], axis=-1)
        joint = jax.nn.relu(self.squeeze(means))
        return {name: 2 * jax.nn.sigmoid(excite(joint)) for name, excite in self.excite.items()}


@register("mmtm", reference="MMTM: Joze et al. 2020, arXiv:1911.08670", needs_grid=True, size="")
class TransferFusion(Strategy):
    """Modalities gate each other's channels inside their encoders; then features side by side: head([h_1; …; h_M]).

    After each of the last `depths` stages of the CNNs, every modality's tokens (a CNN's pixels, the words of a text,
    the steps of a sequence, a vector) are multiplied by the gates of `MultimodalTransfer`, computed from the means of
    all modalities at that place. What is no grid is encoded first, and gated at every place. Needs a grid; any number
    of modalities. Parameters beside those of `concat`: a `MultimodalTransfer` for each place. The paper has several
    places in two deep networks, ratio 4, and the mean of the logits of two heads in place of the concatenation; the
    authors' code leaves out the factor 2 of the gates, and W maps to half of all channels.
    """

    def __init__(self, blueprint: Blueprint, *, depths: int = 1, ratio: int = 4):
        stages = len(blueprint.widths.stages)
        if depths > stages:
            raise UserError(f"mmtm has places after 1 to {stages} stages of this encoder, not {depths}")
        self.first = stages - depths
        self.encoders = nnx.Dict({name: blueprint.encoder(name) for name in blueprint.modalities})
        widths = [spec.width for spec in blueprint.widths.stages]

        def transfer(place: int) -> MultimodalTransfer:
            channels = {
                name: widths[place] if isinstance(pooled.encoder, GridEncoder) else pooled.features
                for name, pooled in self.encoders.items()
            }
            rngs = blueprint.rngs(f"transfer/{place}")
            return MultimodalTransfer(channels, ratio=ratio, dtype=blueprint.dtype, rngs=rngs)

        self.transfers = nnx.List([transfer(place) for place in range(self.first, stages)])
        self.head = blueprint.head(sum(pooled.features for pooled in self.encoders.values()))

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        encoders: dict[str, Any] = {name: pooled.encoder for name, pooled in self.encoders.items()}
        maps: dict[str, Any] = {n: inputs[n].values for n, e in encoders.items() if isinstance(e, GridEncoder)}
        tokens: dict[str, Encoded] = {n: e(inputs[n]) for n, e in encoders.items() if n not in maps}
        for depth in range(self.first + len(self.transfers)):
            maps = {name: encoders[name].cnn.stages[depth](grid) for name, grid in maps.items()}
            if depth >= self.first:
                means = {n: grid.mean((1, 2)) for n, grid in maps.items()} | {
                    n: masked_mean(*e) for n, e in tokens.items()
                }
                gates = self.transfers[depth - self.first](means)
                maps = {name: grid * gates[name][:, None, None] for name, grid in maps.items()}
                tokens = {name: e._replace(tokens=e.tokens * gates[name][:, None]) for name, e in tokens.items()}
        tokens |= {n: Encoded(grid.reshape(grid.shape[0], -1, grid.shape[-1])) for n, grid in maps.items()}
        features = [pooled.of_tokens(tokens[name]) for name, pooled in self.encoders.items()]
        return Outputs(self.head(jnp.concatenate(features, axis=-1)))
