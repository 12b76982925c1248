"""Early fusion on one grid: every other modality becomes further channels of the image."""

from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.early.base import LOUDNESS, ChannelFusion
from fusion_bench.fusion.registry import register


@register(
    "early-channel",
    reference="input-level fusion: Barnum et al. 2020, arXiv:2011.07191; text broadcast as in StackGAN, 1612.03242",
    canonical=True,
    needs_grid=True,
    size="channels",
)
class EarlyChannel(ChannelFusion):
    """One CNN over the image and each other modality as further channels: cnn([x_1, loudness · norm(e_2), …]).

    e_m has `channels` entries, repeated at every pixel: the mean of a text's word embeddings, the mean of a linear map
    of a sequence's steps, or a linear map of a vector. A further grid is resized to the image's size. The order of
    words or steps is lost. Needs a grid; takes any number of other modalities. Parameters beside the image's encoder:
    those of the embeddings (text: words · channels; sequence: d_m · channels; vector: (d_m + 1) · channels), and
    k² · A · width weights of the first layer for A further channels and patches or kernels of side k. StackGAN
    concatenates 128 channels to a 4×4 map.
    """

    def __init__(self, blueprint: Blueprint, *, channels: int = 16, loudness: float = LOUDNESS):
        super().__init__(blueprint, depth=0, channels=channels, loudness=loudness)
