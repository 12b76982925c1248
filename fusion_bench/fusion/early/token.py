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

    Any number of modalities. Parameters with width w: those of the embeddings (grid: (patch² · channels + 1) · w; text:
    words · w; sequence or vector: (d_m + 1) · w); w for the position of each token; layers · (8 w² + 11 w) + 2 w.
    VisualBERT has 12 layers of width 768 on features of an object detector. Here depth and width follow the size of the
    encoders, and the output is the mean over tokens instead of a class token.
    """
