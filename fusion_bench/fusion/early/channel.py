"""Early fusion on one grid: every other modality laid over the image as further channels."""

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
    """One CNN over the image with each other modality laid over it as channels: cnn([x_1, loudness · norm(e_2), …]).

    e_m is the mean of a text's word embeddings, the mean of a linear map of a sequence's steps, or a linear map of a
    vector, of so many channels, repeated at every pixel; a further grid is resized to the image's. Needs a grid; any
    number of other modalities. The order of words or steps is lost. Parameters beside the image's encoder: those of
    the embeddings (a text's: words · channels; a sequence's: d_m · channels; a vector's: (d_m + 1) · channels), and the
    first layer's weights of A further channels, k² · A · width for patches or kernels of side k. StackGAN lays 128
    channels over a 4×4 map.
    """

    def __init__(self, blueprint: Blueprint, *, channels: int = 16, loudness: float = LOUDNESS):
        super().__init__(blueprint, depth=0, channels=channels, loudness=loudness)
