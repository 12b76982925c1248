"""The contract of a diagnostic, and the trained model that it is given."""

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num

from fusion_bench.axis import Axis, Registered
from fusion_bench.config import Choice
from fusion_bench.data.batches import DeviceData, DeviceModality, ModalityBatch, standardise
from fusion_bench.data.dataset import PAD, Dataset, Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.compile import default_predict_batch

Parts = Mapping[str, Any]
"""Each modality of some examples, by name, as a tree of arrays [example, ...]: see `Model.encode`."""
Companion = Callable[[str, str], "Model | None"]
"""From a strategy's label and a target, the model of that strategy in the same setting with the same seed."""


class Stored(NamedTuple):
    """Values of one modality as a dataset stores them, [example, ...], and the mask of a sequence."""

    values: Num[np.ndarray | Array, "example *shape"]
    mask: Bool[np.ndarray | Array, "example token"] | None = None


class Model:
    """A trained model on a dataset, in evaluation mode; the modalities of an input may come from several examples.

    Attributes:
      module: the strategy.
      dataset: in host memory.
      data: on the device.
      modalities: those that the model reads, in alphabetical order.
      graph, state: of the module, to be merged.
      stats: of each modality, a `DeviceModality` without values.
      stored: arrays test_logits, test_labels, validation_logits and validation_labels of its run.
      cache: results that do not depend on the model, shared by all models on these data.
      files: paths of further data on this machine, by name.
    """

    def __init__(
        self,
        module: Any,
        dataset: Dataset,
        data: DeviceData,
        *,
        stored: Mapping[str, np.ndarray] | None = None,
        companion: Companion = lambda strategy, target: None,
        cache: dict[Any, Any] | None = None,
        files: Mapping[str, Path] | None = None,
    ):
        self.module, self.dataset, self.data = module, dataset, data
        self.stored, self.files = stored or {}, files or {}
        self.cache = {} if cache is None else cache
        self._companion = companion
        only = getattr(module, "modality", None)
        self.modalities = tuple(sorted(data.modalities)) if only is None else (only,)
        self.graph, self.state = nnx.split(module)
        self.stats = {name: data.modalities[name]._replace(values=None, mask=None) for name in self.modalities}

    def labels(self, indices: Int[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
        return self.dataset.labels[indices]

    def companion(self, strategy: str, target: str = "label") -> "Model | None":
        """Returns the model of another strategy in the same setting with the same seed, if it is stored.

        Args:
          strategy: its label, such as "image-only".
          target: "label", or "class" for the model of the class where the caption channel shifts.
        """
        return self._companion(strategy, target)

    def encode(self, indices: Int[np.ndarray, " example"]) -> Parts:
        """Returns each modality of the examples at `indices`; see `encode_values`."""
        parts = {}
        for name in self.modalities:
            modality = self.dataset.modalities[name]
            mask = None if modality.mask is None else modality.mask[indices]
            parts[name] = self.encode_values(name, modality.values[indices], mask)
        return parts

    def encode_values(self, modality: str, values: np.ndarray, mask: np.ndarray | None = None) -> Any:
        """Returns one modality of some examples: `Strategy.encode` of it where the strategy is separable.

        Otherwise the modality is returned as it is, and `logits` evaluates the whole model.

        Args:
          modality: its name.
          values: as the dataset stores them, [example, ...].
          mask: of a sequence, [example, token]; None for all steps.
        """
        if mask is None and self.dataset.modalities[modality].kind == "sequence":
            mask = np.ones(values.shape[:2], bool)
        part = Stored(values, mask)
        if not getattr(self.module, "is_separable", False):
            return part
        return _in_batches(functools.partial(_encode, self.graph, modality, self.state, self.stats[modality]), part)

    def zero(self, modality: str) -> Any:
        """Returns one row of a modality at zero: the mean of a grid or vector, no token of a text or sequence."""
        spec, mean = self.dataset.modalities[modality].spec, np.asarray(self.data.modalities[modality].mean)
        if spec.kind == "tokens":
            return self.encode_values(modality, np.full((1, *spec.shape), PAD, np.int32))
        mask = np.zeros((1, spec.shape[0]), bool) if spec.kind == "sequence" else None
        return self.encode_values(modality, np.broadcast_to(mean, (1, *spec.shape)), mask)

    def logits(
        self, parts: Parts, rows: Mapping[str, Int[np.ndarray, " row"]] | None = None
    ) -> Float[np.ndarray, "row class"]:
        """Returns the logits of examples, with some of their modalities from other rows of `parts`.

        Args:
          parts: the modalities.
          rows: by modality, the rows of its part that are taken; in their order where there are none.
        """
        taken = {name: take(part, rows[name]) if rows and name in rows else part for name, part in parts.items()}
        return _in_batches(functools.partial(_predict, self.graph, self.state, self.stats), taken)


def take(part: Any, rows: Int[np.ndarray, " row"]) -> Any:
    """Returns some rows of a part."""
    return jax.tree.map(lambda array: array[rows], part)


def joined(graph: Any, state: Any, stats: Mapping[str, DeviceModality], parts: Parts) -> Float[Array, "row class"]:
    """Returns the logits of rows of all parts; pure, for compiled loops of diagnostics."""
    module = nnx.merge(graph, state)
    if getattr(module, "is_separable", False):
        return module.join(parts)
    return module({name: _batch(part, stats[name]) for name, part in parts.items()}).logits


_predict = jax.jit(joined, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(graph: Any, modality: str, state: Any, stats: DeviceModality, part: Stored) -> Any:
    return nnx.merge(graph, state).encode(modality, _batch(part, stats))


def _batch(part: Stored, stats: DeviceModality) -> ModalityBatch:
    return standardise(stats._replace(values=part.values, mask=part.mask))


def _in_batches(function: Callable[[Any], Any], part: Any) -> Any:
    """Returns a function of batches of rows for any number of rows; the last batch is padded."""
    count = len(jax.tree.leaves(part)[0])
    size = min(default_predict_batch(), count)
    done = []
    for start in range(0, count, size):
        rows = np.resize(np.arange(start, min(start + size, count)), size)
        done.append(jax.tree.map(np.asarray, function(take(part, rows))))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:count], *done)


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
