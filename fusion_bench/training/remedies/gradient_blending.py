"""Joint and unimodal losses, weighted by how much each of them generalises."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from fusion_bench.data.dataset import Task
from fusion_bench.fields import Positive
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.remedies.base import Constant, Loss, Member, Remedy, Step, register_remedy, unimodal_members
from fusion_bench.training.remedies.unimodal_losses import UnimodalHeads, unimodal_losses


class Blend(UnimodalHeads):
    """The heads, and the weights: of the joint loss, then of each modality in alphabetical order."""

    def __init__(self, strategy: Any, blueprint: Blueprint):
        super().__init__(strategy, blueprint)
        count = 1 + len(blueprint.modalities)
        self.weights = Constant(jnp.full(count, 1 / count, jnp.float32))


@register_remedy("gradient-blending", reference="G-Blend: Wang et al. 2020, arXiv:1905.12681")
class GradientBlending(Remedy):
    """Weights the joint and the unimodal losses by the generalisation and overfitting of models of each alone.

    With k the joint loss or a modality, L^T_k and L^V_k the training and validation loss of a model trained with k
    alone, from its initialisation (0) to its end (N):

        ΔG_k = L^V_k,0 − L^V_k,N        ΔO_k = (L^V_k,N − L^T_k,N) − (L^V_k,0 − L^T_k,0)
        w_k = max(ΔG_k, 0) / max(ΔO_k, ε)² / Z, with Z such that Σ_k w_k = 1; all equal if no ΔG_k is positive
        L = w_joint L_joint + Σ_u w_u CE(h_u(z_u), y)

    This is the offline form, with constant weights. The models are the unimodal runs and the strategy's own run without
    a remedy, of the same seed. L^T and L^V are mean cross-entropies in evaluation mode, without augmentation and label
    smoothing, over equally many examples. Heads and unimodal losses are those of `unimodal-losses`.

    A modality whose validation loss grew has the weight 0: the square of a negative ΔG_k / ΔO_k would reward it. ΔO_k
    below ε, or negative, is not told from ε, as a mean over some hundred examples has a standard error of this size.

    Differences: each model is that of the epoch with the best validation accuracy, so N differs between the models, and
    overfitting after that epoch is not seen. The paper's joint model has linear heads.

    Args:
      floor: ε, in nats.
    """

    needs_encoders = True
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"floor": (0.01, 1.0)}

    def __init__(self, *, floor: Positive = 0.05):
        self.floor = floor

    def members(self, spec: StrategySpec, task: Task) -> tuple[StrategySpec, ...]:
        return *unimodal_members(task), spec

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        return Blend(strategy, blueprint)

    def prepare(self, strategy: Any, parts: Any, members: Mapping[str, Member]) -> None:
        by_modality = {member.module.modality or "": member for member in members.values()}  # the joint model is first
        losses = [
            [[member.loss(module, split) for split in ("train", "validation")] for module in _course(member)]
            for _, member in sorted(by_modality.items())
        ]
        parts.weights.set_value(jnp.asarray(blending_weights(np.array(losses), self.floor), jnp.float32))

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        outputs = step.outputs()
        found = [step.loss(outputs), *unimodal_losses(step, outputs).values()]
        return [weight * loss for weight, loss in zip(step.parts.weights[...], found, strict=True)], {}


def _course(member: Member) -> tuple[Any, Any]:
    return member.untrained, member.module


def blending_weights(losses: Float[np.ndarray, "model 2 2"], floor: float) -> Float[np.ndarray, " model"]:
    """Returns w_k of each model.

    Args:
      losses: at initialisation and at the end, each on training and validation examples.
      floor: ε.
    """
    (_, start), (_, end) = losses.transpose(1, 2, 0)
    gaps = losses[:, :, 1] - losses[:, :, 0]
    gains, overfitting = np.maximum(start - end, 0), np.maximum(gaps[:, 1] - gaps[:, 0], floor)
    if not gains.any():
        return np.full(len(losses), 1 / len(losses))
    weights = gains / overfitting**2
    return weights / weights.sum()
