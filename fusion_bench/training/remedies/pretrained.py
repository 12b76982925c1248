"""Encoders that start from, or are, those of the unimodal runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from fusion_bench.data.dataset import Task
from fusion_bench.fusion.base import Outputs
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.encoders import PooledEncoder
from fusion_bench.training.remedies.base import (
    Loss,
    Member,
    ModalityOf,
    Remedy,
    Step,
    copy_variables,
    map_owned,
    of_encoders,
    register_remedy,
    unimodal_members,
)


@register_remedy("pretrained", reference="initialisation from unimodal models: Peng et al. 2022, arXiv:2203.15332")
class Pretrained(Remedy):
    """Starts each encoder from the unimodal run of the same seed; everything is then trained as usual.

    The encoder has its trained parameters and running statistics; operator and heads have their usual initial values.
    Training takes the unimodal runs' time too, which the table does not add.
    """

    needs_encoders = True

    def members(self, spec: StrategySpec, task: Task) -> tuple[StrategySpec, ...]:
        return unimodal_members(task)

    def prepare(self, strategy: Any, parts: Any, members: Mapping[str, Member]) -> None:
        for member in members.values():
            copy_encoder(member.module, strategy.encoder_of(member.module.modality))


@register_remedy("frozen", reference="a classifier on extracted features, the usual protocol of multimodal benchmarks")
class Frozen(Pretrained):
    """Takes each encoder from the unimodal run of the same seed and keeps it: operator and heads alone are trained.

    The training examples are encoded once, without augmentation, with the encoders' running statistics. So a step costs
    only the join, and the columns of training speed and FLOPs do not contain the encoders.
    """

    is_frozen = True

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        return [step.loss(Outputs(step.module.join(step.inputs), step.inputs))], {}

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        def stop(updates: Any, params: Any) -> Any:
            return map_owned(lambda modality, update: jnp.zeros_like(update), of_encoders(modality_of), updates)

        return optax.chain(optimizer, optax.stateless(stop))


def copy_encoder(unimodal: Any, encoder: Any) -> None:
    """Sets an encoder to that of a unimodal model, without its pooling if it returns tokens."""
    source = unimodal.encoder_of(unimodal.modality)
    copy_variables(source if isinstance(encoder, PooledEncoder) else source.encoder, encoder)
