"""Features of unimodal models as targets of the encoders."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jax import lax

from fusion_bench.data.dataset import Task
from fusion_bench.fields import NonNegative
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.encoders import PooledEncoder
from fusion_bench.training.remedies.base import (
    Loss,
    Member,
    Remedy,
    Step,
    make_constant,
    register_remedy,
    unimodal_members,
)
from fusion_bench.training.remedies.pretrained import copy_encoder


class Teachers(nnx.Module):
    """An encoder of each modality, which is not trained."""

    def __init__(self, strategy: Any, blueprint: Blueprint):
        self.encoders = nnx.Dict({name: self._make(strategy, blueprint, name) for name in blueprint.modalities})

    @staticmethod
    def _make(strategy: Any, blueprint: Blueprint, name: str) -> Any:
        is_pooled = isinstance(strategy.encoder_of(name), PooledEncoder)
        encoder = blueprint.encoder(name) if is_pooled else blueprint.token_encoder(name)
        make_constant(encoder)
        return encoder


@register_remedy("umt", reference="uni-modal teacher: Du et al. 2023, arXiv:2305.01233")
class UMT(Remedy):
    """Keeps the features of each modality close to those of the unimodal run of the same seed, its teacher.

    With u a modality, z_u its features, t_u those of the teacher for the same augmented input:

        L = L_joint + λ Σ_u mean (z_u − t_u)²

    where the mean is over the batch and the features. The teachers are in evaluation mode and not trained. A step also
    runs their forward passes, and training takes the unimodal runs' time too, which the table does not add.

    z_u are the features that the strategy joins: pooled and batch-normalised, so that the mean is about 2 for unrelated
    features. Of a fusion of tokens they are the mean of the tokens, before any normalisation, of strategy and teacher.
    The teacher has the weights of the epoch that its run selected on validation data. The paper distils pooled features
    of late fusion by a linear layer; public implementations have λ from 10 to 50.

    Args:
      weight: λ.
    """

    needs_encoders = True
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {"weight": (1.0, 50.0)}

    def __init__(self, *, weight: NonNegative = 10.0):
        self.weight = weight

    def members(self, spec: StrategySpec, task: Task) -> tuple[StrategySpec, ...]:
        return unimodal_members(task)

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        return Teachers(strategy, blueprint)

    def prepare(self, strategy: Any, parts: Any, members: Mapping[str, Member]) -> None:
        for member in members.values():
            copy_encoder(member.module, parts.encoders[member.module.modality])

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        outputs = step.outputs()
        step.parts.eval()  # a training puts every module into training mode
        distances = []
        for name, teacher in step.parts.encoders.items():
            own, target = (
                step.module.features_of(encoded).astype(jnp.float32)
                for encoded in (outputs.encoded[name], teacher(step.inputs[name]))
            )
            distances.append(jnp.square(own - lax.stop_gradient(target)).mean())
        return [step.loss(outputs), *(self.weight * distance for distance in distances)], {}
