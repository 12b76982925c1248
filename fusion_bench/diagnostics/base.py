"""The contract of a diagnostic, and the trained model that it is given."""

import functools
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.axis import Axis, Registered
from fusion_bench.data.batches import DeviceData, gather
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.compile import default_predict_batch, in_batches


class Model:
    """A trained model on a dataset, in evaluation mode; the modalities of an input may come from several examples."""

    def __init__(self, module: nnx.Module, data: DeviceData):
        self.module = module
        self.data = data
        self.modalities = tuple(data.modalities)
        self._graph, self._state = nnx.split(module)

    def labels(self, indices: Int[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
        return np.asarray(self.data.labels)[indices]

    def logits(
        self,
        indices: Int[np.ndarray, " example"],
        *,
        swapped: Mapping[str, Int[np.ndarray, " example"]] | None = None,
        zeroed: Collection[str] = (),
    ) -> Float[np.ndarray, "example class"]:
        """Returns the logits of examples, with some of their modalities replaced.

        Args:
          indices: of the examples.
          swapped: by modality, the examples from which it is taken instead.
          zeroed: modalities set to zero: the mean of a grid or vector, no token of a text or sequence.
        """
        sources = {name: (swapped or {}).get(name, indices) for name in self.modalities}

        def predict(rows: Int[np.ndarray, " batch"]) -> Float[Array, "batch class"]:
            batch = {name: source[rows] for name, source in sources.items()}
            return _predict(self._graph, frozenset(zeroed), self._state, self.data, batch)

        return in_batches(predict, np.arange(len(indices)), min(default_predict_batch(), len(indices)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _predict(
    graph: Any, zeroed: frozenset[str], state: Any, data: DeviceData, batch: Mapping[str, Array]
) -> Float[Array, "batch class"]:
    inputs = {}
    for name, indices in batch.items():
        inputs[name] = gather(data, indices)[0][name]
        if name in zeroed:
            inputs[name] = jax.tree.map(jnp.zeros_like, inputs[name])
    return nnx.merge(graph, state)(inputs).logits


class Diagnostic:
    """Base of all diagnostics. Subclasses take options as keyword-only arguments with defaults."""

    def skip(self, spec: StrategySpec, task: Task) -> str | None:
        """Returns the reason why the diagnostic does not apply to a strategy; None where it does."""
        return None

    @abstractmethod
    def __call__(self, model: Model, indices: Int[np.ndarray, " example"]) -> dict[str, float]:
        """Returns numbers by name, like `accuracy_without_text`, of a model on the test examples at `indices`."""


Class = TypeVar("Class", bound=type[Diagnostic])
diagnostics: Axis[Registered] = Axis("diagnostic", "fusion_bench.diagnostics", "fusion_bench.diagnostics")


def register_diagnostic(name: str, *, reference: str, version: int = 1) -> Callable[[Class], Class]:
    """Decorates a class of diagnostics; the arguments are the attributes of `Registered`."""
    return lambda make: diagnostics.register(Registered(name, reference, make, version))
