"""Encoders that start from, or are, those of the unimodal runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
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
            copy_encoder(member.module, strategy, member.module.modality)


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
            return jax.tree_util.tree_map_with_path(
                lambda path, update: jnp.zeros_like(update) if _is_of_encoder(path, modality_of) else update, updates
            )

        return optax.chain(optimizer, optax.stateless(stop))


def _is_of_encoder(path: tuple[Any, ...], modality_of: ModalityOf) -> bool:
    """Returns whether a parameter belongs to an encoder: what a modality owns beside it is its head."""
    names = tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
    return modality_of(names) is not None and "head" not in names


def copy_encoder(unimodal: Any, strategy: Any, modality: str) -> None:
    """Sets the encoder of a modality to that of a unimodal model, without its pooling if the strategy joins tokens."""
    source, target = unimodal.encoder_of(modality), strategy.encoder_of(modality)
    copy_variables(source if isinstance(target, PooledEncoder) else source.encoder, target)
