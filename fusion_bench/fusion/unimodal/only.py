"""One modality alone: the baseline that every fusion has to beat."""

from fusion_bench.fusion.base import Unimodal
from fusion_bench.fusion.registry import register

register("{modality}-only", family="unimodal", reference="baseline", canonical=True)(Unimodal)
