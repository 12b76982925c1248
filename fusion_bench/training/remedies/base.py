"""The contract of a remedy, and what it is given."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from fusion_bench.axis import Axis, Registered
from fusion_bench.config import Choice
from fusion_bench.data.batches import Inputs
from fusion_bench.data.dataset import Split, Task
from fusion_bench.fusion.base import Logits, Outputs, smoothed_cross_entropy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec

ModalityOf = Callable[[tuple[str | int, ...]], str | None]
"""`Strategy.modality_of`: the modality that owns the parameter at a path, None for a shared one."""
Loss = Float[Array, ""]


class Step(NamedTuple):
    """One step of training, as a remedy sees it inside the compiled program.

    Attributes:
      module: the strategy in training mode.
      parts: the remedy's own module, see `Remedy.make_parts`.
      inputs: of the batch, augmented and standardised; the encoded modalities if the remedy `is_frozen`.
      labels: of the batch.
      label_smoothing: of the strategy's loss.
      rngs: random streams of the strategy, for dropout and the like.
      key: of the step, for the remedy itself.
      epoch: counted from 0.
    """

    module: Any
    parts: Any
    inputs: Inputs
    labels: Int[Array, " batch"]
    label_smoothing: float
    rngs: nnx.Rngs
    key: Key[Array, ""]
    epoch: Int[Array, ""]

    def outputs(self, inputs: Inputs | None = None) -> Outputs:
        """Returns the strategy's outputs, by default on the batch itself."""
        return self.module(self.inputs if inputs is None else inputs, rngs=self.rngs)

    def loss(self, outputs: Outputs) -> Loss:
        """Returns the strategy's own loss."""
        return self.module.loss(outputs, self.labels, label_smoothing=self.label_smoothing, epoch=self.epoch)

    def cross_entropy(self, logits: Logits) -> Loss:
        """Returns the cross-entropy of other logits, smoothed as the strategy's loss is."""
        return smoothed_cross_entropy(logits, self.labels, self.label_smoothing)


class Member(NamedTuple):
    """A run with the same seed, trained before without a remedy, that a remedy uses.

    Attributes:
      module: its model, in evaluation mode.
      loss: the mean cross-entropy of a module of its strategy on a split, in nats and in evaluation mode; over equally
        many examples of each split.
      untrained: its module with the initial values of this seed.
    """

    module: Any
    loss: Callable[[Any, Split], float]
    untrained: Any


class Remedy:
    """Base of all remedies. Subclasses take options as keyword-only arguments with defaults, and override some methods.

    Attributes:
      needs_encoders: whether it is defined only for strategies that encode each modality separately.
      is_frozen: whether encoders are not trained, so that the training data are encoded once, before training.
      tuned: range of each option that tuning draws from, uniform on a logarithmic scale, by name.
    """

    needs_encoders: ClassVar[bool] = False
    is_frozen: ClassVar[bool] = False
    tuned: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        """Returns the reason why the remedy does not apply to a strategy; None where it does."""
        registration = spec.registration
        if registration.modality is not None:
            return "it has one modality"
        if registration.is_posthoc:
            return "it trains nothing itself"
        if self.needs_encoders and not registration.strategy.is_separable:
            return "it has no separate encoder of each modality"
        return None

    def members(self, spec: StrategySpec, task: Task) -> tuple[StrategySpec, ...]:
        """Returns the strategies whose runs without a remedy, of the same seed, it uses."""
        return ()

    def make_parts(self, strategy: Any, blueprint: Blueprint) -> nnx.Module:
        """Returns a module of what is trained beside the strategy, or kept during training, and then dropped."""
        return nnx.Module()

    def prepare(self, strategy: Any, parts: Any, members: Mapping[str, Member]) -> None:
        """Sets variables of the strategy and of `parts` before training; `members` are by label."""

    def losses(self, step: Step) -> tuple[Sequence[Loss], Mapping[str, Any]]:
        """Returns the losses of a step, and further arguments of the optimiser's `update`.

        Their sum is minimised, unless `combine` is overridden.
        """
        return [step.loss(step.outputs())], {}

    def combine(self, gradients: Sequence[Any], modality_of: ModalityOf) -> Any:
        """Returns one gradient from that of each loss. Where it is overridden, each loss is differentiated by itself.

        A gradient is a tree like (parameters of the strategy, parameters of `parts`).
        """
        raise NotImplementedError

    def wrap(
        self, optimizer: optax.GradientTransformationExtraArgs, modality_of: ModalityOf
    ) -> optax.GradientTransformationExtraArgs:
        """Returns the optimiser with the remedy's transformation before or after it.

        Its `update` is given these extra arguments in every step, and those that `losses` returns:
          labels: of the batch, int32 [batch].
          epoch: counted from 0, int32 [].
          key: of the step.
        """
        return optimizer


def map_owned(function: Callable[..., Array], modality_of: ModalityOf, tree: Any, *rest: Any) -> Any:
    """Applies `function(modality, leaf, *leaves)` to the leaves that belong to a modality; others stay as they are.

    The tree is one of parameters, or a tuple of such trees.
    """

    def apply(path: tuple[Any, ...], leaf: Array, *leaves: Array) -> Array:
        modality = modality_of(tuple(e.key for e in path if isinstance(e, jax.tree_util.DictKey)))
        return leaf if modality is None else function(modality, leaf, *leaves)

    return jax.tree_util.tree_map_with_path(apply, tree, *rest)


def of_encoders(modality_of: ModalityOf) -> ModalityOf:
    """Returns a function like `modality_of` for parameters of encoders alone: a modality's head is nobody's."""
    return lambda path: None if "head" in path else modality_of(path)


class Constant(nnx.Variable):
    """A variable that training does not change: it has no gradient and no weight decay."""


def make_constant(module: nnx.Module) -> None:
    """Makes each parameter of a module a `Constant`."""
    for _, part in nnx.iter_modules(module):
        for name, variable in [*vars(part).items()]:
            if isinstance(variable, nnx.Param):
                setattr(part, name, Constant(variable.get_value()))


def copy_variables(source: nnx.Module, target: nnx.Module) -> None:
    """Sets all variables of a module to those of another of the same structure."""
    state = nnx.state(target)
    nnx.replace_by_pure_dict(state, nnx.to_pure_dict(nnx.state(source)))
    nnx.update(target, state)


def unimodal_members(task: Task) -> tuple[StrategySpec, ...]:
    """Returns the unimodal strategy of each modality."""
    return tuple(StrategySpec(f"{name}-only") for name in sorted(task.modalities))


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
