"""The contract of a diagnostic."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from fusion_bench.axis import Axis, Registered
from fusion_bench.config import Choice
from fusion_bench.data.dataset import Task
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.fusion.base import Strategy
from fusion_bench.fusion.registry import StrategySpec


class Inapplicable(Exception):
    """Raised by a diagnostic that finds in the data that it does not apply to a model; the message is the reason."""


class Result(NamedTuple):
    """Values of a diagnostic of one run.

    Attributes:
      strategy: its label.
      modality: the one that a unimodal strategy reads; None for a fusion strategy.
      seed: of the run.
      values: by name.
    """

    strategy: str
    modality: str | None
    seed: int
    values: Mapping[str, float]


class Diagnostic:
    """Base of all diagnostics. Subclasses take options as keyword-only arguments with defaults."""

    def is_detail(self, name: str) -> bool:
        """Returns whether a value is stored, but not among those that a command prints."""
        return name.endswith("_std")

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        """Returns the reason why the diagnostic does not apply to a strategy; None where it does."""
        return None

    def companions(self, run: RunKey, others: Sequence[RunKey]) -> list[RunKey]:
        """Returns the runs of the setting that the values of a run depend on; with others they are computed again."""
        return []

    @abstractmethod
    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        """Returns numbers by name, like `accuracy_without_text`, of a model on the test examples at `indices`.

        Raises:
          Inapplicable: the data lack what it needs.
        """

    def compare(self, results: Sequence[Result]) -> list[dict[str, float]]:
        """Returns further values of each run, which follow from the values of all runs of one setting."""
        return [{} for _ in results]


class Bundle:
    """Base of several diagnostics under one name. Subclasses take options as keyword-only arguments with defaults."""

    @abstractmethod
    def parts(self) -> tuple[Choice, ...]:
        """Returns the diagnostics."""


def without_encoders(spec: StrategySpec) -> str | None:
    """Returns the reason why a strategy has no `Model.features`; None where it has some."""
    has_some = spec.registration.strategy.encoder_of is not Strategy.encoder_of
    return None if has_some else f"{spec.name} has no encoder of one modality that is separate from the fusion"


def unimodal(run: RunKey, others: Iterable[RunKey]) -> list[RunKey]:
    """Returns the runs of unimodal strategies with the seed of a run."""
    return [other for other in others if other.seed == run.seed and other.strategy.endswith("-only")]


def spaced(count: int, wanted: int) -> Int[np.ndarray, " example"]:
    """Returns `wanted` of the numbers 0 to count - 1 at even distances; all of them if there are fewer."""
    return np.linspace(0, count - 1, min(wanted, count)).astype(np.int64)


Class = TypeVar("Class", bound=type[Diagnostic] | type[Bundle])
diagnostics: Axis[Registered] = Axis("diagnostic", "fusion_bench.diagnostics", "fusion_bench.diagnostics")


def register_diagnostic(name: str, *, reference: str, version: int = 1) -> Callable[[Class], Class]:
    """Decorates a class of diagnostics; the arguments are the attributes of `Registered`."""
    return lambda make: diagnostics.register(Registered(name, reference, make, version))


def chosen(choices: Iterable[Choice]) -> dict[Choice, Registered]:
    """Returns the diagnostics of some choices, each once and with all its options; those of a bundle in its place.

    Raises:
      UserError: a name or an option is unknown.
    """
    found: dict[Choice, Registered] = {}
    for choice in choices:
        made = diagnostics.make(choice)
        if isinstance(made, Bundle):
            found |= chosen(made.parts())
        else:
            found[diagnostics.resolve(choice)] = diagnostics.find(choice.name)
    return found
