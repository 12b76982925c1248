"""One modality alone: the baseline that every fusion has to beat."""

from collections.abc import Mapping

from flax import nnx

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.interface import Blueprint, Outputs, Strategy
from fusion_bench.fusion.registry import register


@register("{modality}-only", family="unimodal", reference="baseline", canonical=True)
class Unimodal(Strategy):
    """One encoder, one head, one modality: logits = head(h_m)."""

    def __init__(self, blueprint: Blueprint, *, modality: str):
        self.modality = modality
        self.encoder = blueprint.encoder(modality)
        self.head = blueprint.head(self.encoder.features, modality)

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the only modality: all parts are its own."""
        return self.modality

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        return Outputs(self.head(self.encoder(inputs[self.modality])))


def unimodal_models(blueprint: Blueprint) -> Mapping[str, Unimodal]:
    """Returns the model of each modality alone: what late fusion joins."""
    return nnx.Dict({name: Unimodal(blueprint, modality=name) for name in blueprint.modalities})
