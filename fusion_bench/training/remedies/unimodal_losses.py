"""A loss for each modality beside the joint one."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flax import nnx

from fusion_bench.fields import NonNegative
from fusion_bench.fusion.base import LateFusion, Outputs
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.training.remedies.base import Loss, Remedy, Step, register_remedy


class UnimodalHeads(nnx.Module):
    """A head on the features of each modality, trained beside a strategy; none in late fusion, which has its own."""

    def __init__(self, strategy: Any, blueprint: Blueprint):
        names = () if isinstance(strategy, LateFusion) else blueprint.modalities
        self.heads = nnx.Dict({name: blueprint.head(strategy.encoder_of(name).features, name) for name in names})


def unimodal_losses(step: Step, outputs: Outputs) -> dict[str, Loss]:
    """Returns CE(h_u(z_u), y) of each modality u by name, in order; with h_u in `step.parts`, or late fusion's own."""
    if isinstance(step.module, LateFusion):
        logits = step.module.unimodal_logits(outputs)
    else:
        features = {name: step.module.features_of(encoded) for name, encoded in outputs.encoded.items()}
        logits = {name: head(features[name]) for name, head in step.parts.heads.items()}
    return {name: step.cross_entropy(logits[name]) for name in sorted(logits)}


@register_remedy(
    "unimodal-losses",
    reference="uniform multi-loss baseline: Wang et al. 2020, arXiv:1905.12681; Wei and Hu 2024, arXiv:2405.17730",
)
class UnimodalLosses(Remedy):
    """Adds the loss of a classifier on each modality alone to the joint loss.

    With u a modality, z_u its features, h_u a head of its own:

        L = L_joint + λ Σ_u CE(h_u(z_u), y)

    Each h_u is the head of the unimodal baseline, with the same initial values; it is trained with the model and then
    dropped, so its parameters are not counted. z_u of a fusion of tokens is their mean. Late fusion has heads of its
    own, which give the unimodal losses there. The unimodal losses train the encoders too. Label smoothing is that of
    the joint loss.

    This is the baseline of the papers on unimodal objectives, which have λ = 1 and linear heads.

    Args:
      weight: λ.
    """

    needs_encoders = True
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"weight": (0.1, 3.0)}

    def __init__(self, *, weight: NonNegative = 1.0):
        self.weight = weight

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        return UnimodalHeads(strategy, blueprint)

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        outputs = step.outputs()
        alone = unimodal_losses(step, outputs).values()
        return [step.loss(outputs), *(self.weight * loss for loss in alone)], {}
