"""Fusion operators as Flax layers, one file per operator in one folder per family; strategies are built from them.

    fuse = LowRank({"image": 64, "text": 32}, out_features=64, rank=4, rngs=nnx.Rngs(0))
    joint = fuse({"image": h_image, "text": h_text})  # [batch, 64]

Each is built from the width of each modality's features, has the width of its result in `out_features`, and takes
features [batch, feature] by modality. `Bottleneck`, `CrossAttention`, `CrossmodalTransformers` and `Perceiver` take
tokens [batch, token, feature] and masks [batch, token]; `FiLM` returns scales and shifts, `MultimodalTransfer` gates.
All take any number of modalities, except `Gated` and `Multiplicative`, which take two.
"""

from fusion_bench.fusion.intermediate.attention import Attention as Attention
from fusion_bench.fusion.intermediate.bottleneck import Bottleneck as Bottleneck
from fusion_bench.fusion.intermediate.concat import Concat as Concat
from fusion_bench.fusion.intermediate.cross_attention import CrossAttention as CrossAttention
from fusion_bench.fusion.intermediate.film import FiLM as FiLM
from fusion_bench.fusion.intermediate.gated import Gated as Gated
from fusion_bench.fusion.intermediate.gmu import GatedMultimodalUnit as GatedMultimodalUnit
from fusion_bench.fusion.intermediate.mmtm import MultimodalTransfer as MultimodalTransfer
from fusion_bench.fusion.intermediate.moe import MixtureOfExperts as MixtureOfExperts
from fusion_bench.fusion.intermediate.mult import CrossmodalTransformers as CrossmodalTransformers
from fusion_bench.fusion.intermediate.multiplicative import Multiplicative as Multiplicative
from fusion_bench.fusion.intermediate.perceiver import Perceiver as Perceiver
from fusion_bench.fusion.intermediate.sum import Sum as Sum
from fusion_bench.fusion.tensor.block import BlockTerm as BlockTerm
from fusion_bench.fusion.tensor.compact_bilinear import CompactBilinear as CompactBilinear
from fusion_bench.fusion.tensor.low_rank import LowRank as LowRank
from fusion_bench.fusion.tensor.mfb import FactorizedBilinear as FactorizedBilinear
from fusion_bench.fusion.tensor.mfh import FactorizedHighOrder as FactorizedHighOrder
from fusion_bench.fusion.tensor.mlb import LowRankBilinear as LowRankBilinear
from fusion_bench.fusion.tensor.mutan import Mutan as Mutan
from fusion_bench.fusion.tensor.outer_product import OuterProduct as OuterProduct
from fusion_bench.fusion.tensor.tucker import Tucker as Tucker
