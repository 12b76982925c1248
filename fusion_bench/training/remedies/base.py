"""The contract of a remedy."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

import jax
import optax
from jaxtyping import Array, Float, Int

from fusion_bench.axis import Axis, Registered
from fusion_bench.config import Choice
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.registry import StrategySpec

ModalityOf = Callable[[tuple[str | int, ...]], str | None]
"""`Strategy.modality_of`: the modality that owns the parameter at a path, None for a shared one."""


class Remedy:
    """Base of all remedies. Subclasses take options as keyword-only arguments with defaults, and override some methods.

    Attributes:
      needs_unimodal_logits: whether the optimiser is given the logits of each modality alone.
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
        """Returns the objective: the strategy's loss with the remedy's terms."""
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


Class = TypeVar("Class", bound=type[Remedy])
remedies: Axis[Registered] = Axis("remedy", "fusion_bench.training.remedies", "fusion_bench.remedies")


def register_remedy(name: str, *, reference: str, version: int = 1) -> Callable[[Class], Class]:
    """Decorates a class of remedies; the arguments are the attributes of `Registered`."""
    return lambda make: remedies.register(Registered(name, reference, make, version))


def left_untreated(specs: Iterable[StrategySpec], choice: Choice, task: Task) -> dict[str, str]:
    """Returns the reason for each fusion strategy that a remedy does not apply to, by label.

    Unimodal baselines are trained without one. Raises UserError if there is no such remedy, or an option is wrong.
    """
    remedy: Remedy = remedies.make(choice)
    reasons = {spec.label: remedy.skip(spec, task) for spec in specs if spec.registration.modality is None}
    return {label: reason for label, reason in reasons.items() if reason is not None}
