"""The contract of a diagnostic, and the trained model that it is given.

@register_diagnostic("mine", reference="a paper")
class Mine(Diagnostic): ...
"""

import functools
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.axis import Axis
from fusion_bench.data.batches import DeviceData, gather
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.compile import default_predict_batch, in_batches


class Model:
    """A trained model on a dataset, whose inputs may be put together from several examples.

    Attributes:
      module: in evaluation mode.
      data: the dataset on the device.
      modalities: those of the dataset, by name.
    """

    def __init__(self, module: nnx.Module, data: DeviceData):
        self.module = module
        self.data = data
        self.modalities = tuple(data.modalities)
        self._graph, self._state = nnx.split(module)

    def labels(self, indices: Int[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
        """Returns the labels of examples."""
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
          swapped: for a modality, the examples that it comes from instead.
          zeroed: modalities that are zero: the mean of a grid or vector, no token of a text.
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
        """Returns numbers by name, for example `accuracy_without_text`.

        Args:
          model: trained, on the dataset of its study.
          indices: of the test examples.
        """


diagnostics: Axis[Diagnostic] = Axis("diagnostic", "fusion_bench.diagnostics", "fusion_bench.diagnostics")
register_diagnostic = diagnostics.register
