"""Early fusion in one token sequence."""

from fusion_bench.fusion.early.base import JointTransformer
from fusion_bench.fusion.registry import register


@register(
    "early-token",
    reference="single-stream transformer: VisualBERT, Li et al. 2019, arXiv:1908.03557",
    canonical=True,
    baseline="token-only",
)
class EarlyToken(JointTransformer):
    """One transformer over the patches, words and steps of all modalities: head(mean(T([E_1 x_1; …; E_M x_M]))).

    Any number of modalities. Parameters with width w: those of the embeddings (a grid's: (patch² · channels + 1) · w;
    a text's: words · w; a sequence's or vector's: (d_m + 1) · w) and of a position for each token, w; layers · (8 w² +
    11 w) + 2 w. VisualBERT has 12 layers of width 768 on features of an object detector; here the size of the encoders
    decides, and the output is a mean over tokens, not a class token's.
    """
