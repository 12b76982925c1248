"""The joint transformer on one modality: the baseline of `early-token`."""

from fusion_bench.fusion.early.base import JointTransformer
from fusion_bench.fusion.registry import register


@register("{modality}-token-only", reference="baseline of early-token", version=2)
class TokenUnimodal(JointTransformer):
    """The transformer of early-token on one modality."""
