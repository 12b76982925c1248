"""The contract of a remedy, and its assignment to the strategies of a study.

@register_remedy("mine", reference="a paper")
class Mine(Remedy): ...
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int

from fusion_bench.axis import Axis
from fusion_bench.config import Choice
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.registry import StrategySpec

ModalityOf = Callable[[tuple[str | int, ...]], str | None]
"""`Strategy.modality_of`: the modality that owns the parameter at a path, None for a joint part."""


class Remedy:
    """Base of all remedies. Subclasses take options as keyword-only arguments with defaults, and override some methods.

    Attributes:
      needs_unimodal_logits: whether the optimiser is given the class scores of each modality alone.
    """

    needs_unimodal_logits: ClassVar[bool] = False

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        """Returns the reason why the remedy does not apply to a strategy; None where it does."""
        registration = spec.registration
        if registration.modality is not None:
            return "it has one modality"
        if registration.is_posthoc:
            return "it trains nothing itself"
        if self.needs_unimodal_logits and registration.strategy.unimodal_logits is Strategy.unimodal_logits:
            return "it has no separate encoder of each modality"
        return None

    def loss(self, loss: Float[Array, ""], outputs: Outputs, labels: Int[Array, " batch"]) -> Float[Array, ""]:
        """Returns the objective: the strategy's loss, and the terms that the remedy adds to it."""
        return loss

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        """Returns the optimiser with the remedy's transformation before or after it.

        Its `update` is given these extra arguments in every step:
          unimodal_logits: of the batch, float32 [batch, class] for each modality; empty unless they are needed.
          labels: of the batch, int32 [batch].
          epoch: counted from 0, int32 [].
          key: of the step.
        """
        return optimizer


def map_owned(function: Callable[..., Array], modality_of: ModalityOf, tree: Any, *rest: Any) -> Any:
    """Applies `function(modality, leaf, *leaves)` to the leaves that belong to a modality; others stay as they are."""

    def apply(path: tuple[Any, ...], leaf: Array, *leaves: Array) -> Array:
        modality = modality_of(tuple(e.key for e in path if isinstance(e, jax.tree_util.DictKey)))
        return leaf if modality is None else function(modality, leaf, *leaves)

    return jax.tree_util.tree_map_with_path(apply, tree, *rest)


remedies: Axis[Remedy] = Axis("remedy", "fusion_bench.training.remedies", "fusion_bench.remedies")
register_remedy = remedies.register


class Assignment(NamedTuple):
    """The remedies of a study.

    Attributes:
      remedies: of each strategy that is trained, by label.
      skipped: the reason why a strategy is left out, by label.
    """

    remedies: dict[str, Choice]
    skipped: dict[str, str]


def assign(specs: Iterable[StrategySpec], choice: Choice, task: Task) -> Assignment:
    """Returns the remedy with which each strategy is trained, with all its options, and why others are left out.

    Unimodal baselines are trained without a remedy, so that their runs are the same in every study.

    Raises:
      UserError: there is no such remedy, or an option is not right.
    """
    remedy, resolved = remedies.make(choice), remedies.resolve(choice)
    assigned, skipped = {}, {}
    for spec in specs:
        if spec.registration.modality is not None:
            assigned[spec.label] = Choice("none")
        elif reason := remedy.skip(spec, task):
            skipped[spec.label] = reason
        else:
            assigned[spec.label] = resolved
    return Assignment(assigned, skipped)
