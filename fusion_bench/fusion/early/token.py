"""Early fusion in one token sequence."""

from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.early.base import JointTransformer
from fusion_bench.fusion.registry import register
from fusion_bench.models.tokens import Stem
from fusion_bench.models.transformer import Order


@register(
    "early-token",
    reference="single-stream transformer: VisualBERT, Li et al. 2019, arXiv:1908.03557",
    canonical=True,
    baseline="token-only",
    version=2,
)
class EarlyToken(JointTransformer):
    """One transformer over the patches, words and steps of all modalities: head(norm([mean(T_1); …; mean(T_M)])).

    [T_1; …; T_M] = T([…; norm(E_m x_m) + p_m; …]). Any number of modalities. Parameters with width w: those of
    the embeddings (grid: (patch² · channels + 1) · w; text: words · w; sequence or vector: (d_m + 1) · w), w for the
    position of each token, 4 w for the normalisations of each modality, layers · (8 w² + 11 w) + 2 w. With
    `stem="conv"` patches are embedded by convolutions of stride 2, as Xiao et al. (2021, arXiv:2106.14881) do.

    VisualBERT has 12 layers of width 768 that normalise each sum (`order="post"`), MLPs of 4 w (`expansion=4`, layers ·
    (4 w² + 2 w) parameters more), features of an object detector, and a class token. Here depth and width follow the
    size of the encoders, and the mean over each modality's tokens, batch-normalised, takes the place of the class
    token. On `shapes` with `synergy` captions the interaction is learned with `stem="conv"`; with patches it was only
    where the image's part knew the class beforehand: the interaction alone did not teach it (one seed,
    `experiments/token_joins.py`).
    """

    def __init__(self, blueprint: Blueprint, *, stem: Stem = "patch", expansion: int = 2, order: Order = "pre"):
        super().__init__(blueprint, stem=stem, expansion=expansion, order=order)
