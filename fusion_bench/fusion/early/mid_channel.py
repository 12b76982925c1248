"""Fusion by further channels at any depth of one CNN."""

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
    """As `early-channel`, with the channels concatenated to the feature map after stage `depth` of the CNN.

    Depth 0 is `early-channel`. At the depth of the last stage pooling puts the channels beside the image's features, as
    `concat` does. Needs a grid; takes any number of other modalities. Parameters: as those of `early-channel`, with the
    following stage in place of the first; after the last stage the head follows, and each channel has a scale and a
    shift.
    """

    def __init__(self, blueprint: Blueprint, *, depth: Natural = 1, channels: int = 16, loudness: float = LOUDNESS):
        stages = len(blueprint.widths.stages)
        if depth > stages:
            raise UserError(f"mid-channel has depths from 0 to {stages} in this encoder, not {depth}")
        super().__init__(blueprint, depth=depth, channels=channels, loudness=loudness)
