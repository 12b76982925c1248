"""The joint transformer on one modality: the baseline of `early-token`."""

from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.early.base import JointTransformer
from fusion_bench.fusion.registry import register


@register("{modality}-token-only", family="unimodal", reference="baseline of early-token")
class TokenUnimodal(JointTransformer):
    """The transformer of early-token on one modality."""

    def __init__(self, blueprint: Blueprint, *, modality: str):
        super().__init__(blueprint, [modality])
        self.modality = modality

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the only modality: all parts are its own."""
        return self.modality
