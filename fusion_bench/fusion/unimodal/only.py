"""One modality alone: the baseline of every fusion strategy."""

from fusion_bench.fusion.base import Unimodal
from fusion_bench.fusion.registry import register

register("{modality}-only", family="unimodal", reference="baseline", canonical=True)(Unimodal)
