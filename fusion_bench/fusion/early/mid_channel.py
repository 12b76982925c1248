"""Fusion by channels at any depth of one CNN: from the input to next door of `concat`."""

from fusion_bench.errors import UserError
from fusion_bench.fields import Natural
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.early.base import LOUDNESS, ChannelFusion
from fusion_bench.fusion.registry import register


@register(
    "mid-channel",
    reference="text broadcast over a feature map: StackGAN, arXiv:1612.03242",
    needs_grid=True,
    size="channels",
)
class MidChannel(ChannelFusion):
    """As `early-channel`, laid over the feature map after stage `depth` of the CNN.

    Depth 0 is `early-channel`; the number of stages lays the channels over the last map, so that pooling puts them
    beside the image's features, as `concat` does. Needs a grid; any number of other modalities. Parameters as those
    of `early-channel`, with the stage that follows in place of the first; after the last stage the head follows, and
    each channel has a scale and a shift.
    """

    def __init__(self, blueprint: Blueprint, *, depth: Natural = 1, channels: int = 16, loudness: float = LOUDNESS):
        stages = len(blueprint.widths.stages)
        if depth > stages:
            raise UserError(f"mid-channel has depths from 0 to {stages} in this encoder, not {depth}")
        super().__init__(blueprint, depth=depth, channels=channels, loudness=loudness)
