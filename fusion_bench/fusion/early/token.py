"""Early fusion in one token sequence, and the same transformer on one modality as its baseline."""

from collections.abc import Iterable

import jax.numpy as jnp
from flax import nnx

from fusion_bench.data.batches import Inputs
from fusion_bench.fusion.interface import Blueprint, Outputs, Strategy
from fusion_bench.fusion.registry import register
from fusion_bench.models.encoders import HEADS
from fusion_bench.models.layers import masked_mean
from fusion_bench.models.tokens import TokenEmbedding
from fusion_bench.models.transformer import Transformer


class JointTransformer(Strategy):
    """head(mean(transformer([patches of every grid; words of every text; a token for every vector]))).

    Each modality has its own embedding and positions, which also tell the modalities apart; every token attends
    to every other that is not padding.
    """

    def __init__(self, blueprint: Blueprint, modalities: Iterable[str]):
        widths, dtype = blueprint.widths, blueprint.dtype
        self.embeddings = nnx.Dict(
            {
                name: TokenEmbedding(
                    blueprint.task.modalities[name], widths.tokens, patch=widths.patch, dtype=dtype,
                    rngs=blueprint.rngs(f"tokens/{name}"),
                )
                for name in modalities
            }
        )  # fmt: skip
        self.transformer = Transformer(
            widths.tokens, HEADS, widths.layers, dtype=dtype, rngs=blueprint.rngs("transformer")
        )
        self.head = blueprint.head(widths.tokens)

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        embedded = [embed(inputs[name]) for name, embed in self.embeddings.items()]
        tokens = jnp.concatenate([tokens for tokens, _ in embedded], axis=1)
        mask = jnp.concatenate([mask for _, mask in embedded], axis=1)
        return Outputs(self.head(masked_mean(self.transformer(tokens, mask), mask)))


@register(
    "early-token",
    family="early",
    reference="single-stream transformer: VisualBERT, Li et al. 2019, arXiv:1908.03557",
    canonical=True,
    baseline="token-only",
)
class EarlyToken(JointTransformer):
    """One transformer over the patches and the words of all modalities: head(mean(T([E_1 x_1; …; E_M x_M]))).

    Any number of modalities. Parameters with width w: those of the embeddings (a grid's: (patch² · channels + 1) · w;
    a text's: words · w; a vector's: (d_m + 1) · w) and of a position for each token, w; layers · (8 w² + 11 w) + 2 w.
    VisualBERT has 12 layers of width 768 on features of an object detector; here the size of the encoders decides,
    and the output is a mean over tokens, not a class token's.
    """

    def __init__(self, blueprint: Blueprint):
        super().__init__(blueprint, blueprint.modalities)


@register("{modality}-token-only", family="unimodal", reference="baseline of early-token")
class TokenUnimodal(JointTransformer):
    """The transformer of early-token on one modality."""

    def __init__(self, blueprint: Blueprint, *, modality: str):
        super().__init__(blueprint, [modality])
        self.modality = modality

    def modality_of(self, path: tuple[str | int, ...]) -> str | None:
        """Returns the only modality: all parts are its own."""
        return self.modality
