"""A trained model on a dataset, whose modalities may come from several examples."""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num

from fusion_bench.data.batches import DeviceData, DeviceModality, ModalityBatch, standardise
from fusion_bench.data.dataset import PAD, Dataset
from fusion_bench.fusion.base import Outputs
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.encoders import PooledEncoder, pooled
from fusion_bench.training.compile import default_predict_batch

Parts = Mapping[str, Any]
"""Each modality of some examples, by name, as a tree of arrays [example, ...]: see `Model.encode`."""


JOINED = 500
"""Rows of encoded modalities that are joined at once."""


class RunKey(NamedTuple):
    """A stored run among those of its setting.

    Attributes:
      id: of the run.
      strategy: its label, such as "image-only", with its remedy.
      seed: of the run.
      target: "label", or "class" for a model of the class where the caption channel shifts the label.
      spec: the strategy with its options.
    """

    id: str
    strategy: str
    seed: int
    target: str = "label"
    spec: StrategySpec | None = None


class Stored(NamedTuple):
    """Values of one modality as a dataset stores them, [example, ...], and the mask of a sequence."""

    values: Num[np.ndarray | Array, "example *shape"]
    mask: Bool[np.ndarray | Array, "example token"] | None = None


class Decisions(NamedTuple):
    """Logits of some rows with their uncertainty, and weights and logits of each modality if a model weighs them."""

    logits: Float[np.ndarray, "row class"]
    uncertainty: Float[np.ndarray, " row"]
    weights: Mapping[str, Float[np.ndarray, " row"]]
    unimodal_logits: Mapping[str, Float[np.ndarray, "row class"]]


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
      run: the one that it is the model of.
      companions: the other runs of its setting, and what loads their models.
      cache: results that do not depend on the model, or by the id of its run; shared by all models on these data.
      files: paths of further data on this machine, by name.
    """

    def __init__(
        self,
        module: Any,
        dataset: Dataset,
        data: DeviceData,
        *,
        stored: Mapping[str, np.ndarray] | None = None,
        run: RunKey | None = None,
        companions: Mapping[RunKey, Callable[[], "Model"]] | None = None,
        cache: dict[Any, Any] | None = None,
        files: Mapping[str, Path] | None = None,
    ):
        self.module, self.dataset, self.data = module, dataset, data
        self.stored, self.files = stored or {}, files or {}
        self.run, self.companions = run or RunKey("", "", 0), companions or {}
        self.cache = {} if cache is None else cache
        only = getattr(module, "modality", None)
        self.modalities = tuple(sorted(data.modalities)) if only is None else (only,)
        self.graph, self.state = nnx.split(module)
        self.stats = {name: data.modalities[name]._replace(values=None, mask=None) for name in self.modalities}

    @property
    def is_separable(self) -> bool:
        """Whether the strategy encodes each modality separately; see `Strategy`."""
        return getattr(self.module, "is_separable", False)

    @property
    def _batch_size(self) -> int:
        return JOINED if self.is_separable else default_predict_batch()

    def labels(self, indices: Int[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
        return self.dataset.labels[indices]

    def companion(self, strategy: str, target: str = "label", seed: int | None = None) -> "Model | None":
        """Returns the model of another run in the same setting, if it is stored.

        Args:
          strategy: its label, such as "image-only".
          target: "label", or "class" for the model of the class where the caption channel shifts.
          seed: by default that of this model.

        Raises:
          UserError: it cannot be read.
        """
        found = self.find(strategy, target, seed)
        return None if found is None else self.load(found)

    def find(self, strategy: str, target: str = "label", seed: int | None = None) -> RunKey | None:
        """Returns the run whose model `companion` returns, without reading it."""
        wanted = strategy, self.run.seed if seed is None else seed, target
        return next((run for run in self.companions if (run.strategy, run.seed, run.target) == wanted), None)

    def load(self, run: RunKey) -> "Model":
        """Returns the model of this run or of a companion; raises UserError if it cannot be read."""
        return self if run == self.run else self.companions[run]()

    def alone(self, modality: str) -> RunKey | None:
        """Returns the run of the same seed whose encoder learned from this modality alone, if it is stored.

        It learned what the modality tells; see `target_of`.
        """
        return self.find(f"{modality}-only", self.target_of(modality))

    def target_of(self, modality: str) -> str:
        """Returns what a modality tells: the "label", or the "class" beside captions that shift the label."""
        captions = self.dataset.captions
        if captions is None or captions.channel is None or modality == captions.modality:
            return "label"
        return "class" if captions.channel.spec.shift > 0 else "label"

    def encode(self, indices: Int[np.ndarray, " example"]) -> Parts:
        """Returns each modality of the examples at `indices`; see `encode_values`."""
        return {name: self.encode_one(name, indices) for name in self.modalities}

    def encode_one(self, modality: str, indices: Int[np.ndarray, " example"]) -> Any:
        """Returns one modality of the examples at `indices`; see `encode_values`."""
        found = self.dataset.modalities[modality]
        return self.encode_values(modality, found.values[indices], None if found.mask is None else found.mask[indices])

    def features(
        self, modality: str, indices: Int[np.ndarray, " example"]
    ) -> Float[np.ndarray, "example feature"] | None:
        """Returns the pooled features of one modality, from an encoder that reads nothing else; None without one.

        In every strategy they are the mean of the encoder's tokens, or their maximum where `image-only` pools so,
        before any batch normalisation.
        """
        encoder = self.module.encoder_of(modality)
        if encoder is None:
            return None
        # split from the strategy, so that all strategies share one compilation
        graph, state = nnx.split(encoder.encoder if isinstance(encoder, PooledEncoder) else encoder)
        found = self.dataset.modalities[modality]
        part = Stored(found.values[indices], None if found.mask is None else found.mask[indices])
        return _in_batches(functools.partial(_features, graph, state, self.stats[modality]), part)

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
        if not self.is_separable:
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
        return _in_batches(functools.partial(_predict, self.graph, self.state, self.stats), taken, self._batch_size)

    def decisions(self, parts: Parts) -> Decisions:
        """Returns the model's logits for the rows of `parts`, with its uncertainty and the weights of modalities."""
        return _in_batches(
            functools.partial(_decisions, self.graph, self.state, self.stats), dict(parts), self._batch_size
        )

    def grid(self, parts: Parts) -> Float[np.ndarray, "*rows class"]:
        """Returns the logits of every combination of rows: an axis for each modality, in alphabetical order.

        Args:
          parts: the modalities, which may have different numbers of rows.
        """
        shape = tuple(len(jax.tree.leaves(parts[name])[0]) for name in sorted(parts))
        count, found = math.prod(shape), []
        parts = jax.device_put(dict(parts))
        size = min(self._batch_size, count)
        for start in range(0, count, size):
            found.append(_predict_grid(self.graph, size, shape, self.state, self.stats, parts, start))
        return np.concatenate([np.asarray(logits) for logits in found])[:count].reshape(*shape, -1)


def take(part: Any, rows: Int[np.ndarray | Array, " row"]) -> Any:
    """Returns some rows of a part."""
    return jax.tree.map(lambda array: array[rows], part)


def joined(graph: Any, state: Any, stats: Mapping[str, DeviceModality], parts: Parts) -> Float[Array, "row class"]:
    """Returns the logits of rows of all parts; pure, for compiled loops of diagnostics."""
    return _outputs(nnx.merge(graph, state), stats, parts).logits


def _outputs(module: Any, stats: Mapping[str, DeviceModality], parts: Parts) -> Outputs:
    if getattr(module, "is_separable", False):
        return Outputs(module.join(parts), parts)
    return module({name: _batch(part, stats[name]) for name, part in parts.items()})


@functools.partial(jax.jit, static_argnums=0)
def _decisions(graph: Any, state: Any, stats: Mapping[str, DeviceModality], parts: Parts) -> Decisions:
    module: Any = nnx.merge(graph, state)
    outputs: Any = _outputs(module, stats, parts)
    weights = module.modality_weights(outputs)
    alone = module.unimodal_logits(outputs) if weights else {}
    return Decisions(outputs.logits, module.uncertainty(outputs), weights, alone)


_predict = jax.jit(joined, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _predict_grid(
    graph: Any, size: int, shape: tuple[int, ...], state: Any, stats: Any, parts: Any, start: Int[Array, ""]
) -> Float[Array, "combination class"]:
    """Returns the logits of `size` combinations from number `start` on; those past the end repeat the last one."""
    numbers = jnp.minimum(start + jnp.arange(size), math.prod(shape) - 1)
    rows = dict(zip(sorted(parts), jnp.unravel_index(numbers, shape), strict=True))
    return joined(graph, state, stats, {name: take(part, rows[name]) for name, part in parts.items()})


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(graph: Any, modality: str, state: Any, stats: DeviceModality, part: Stored) -> Any:
    return nnx.merge(graph, state).encode(modality, _batch(part, stats))


@functools.partial(jax.jit, static_argnums=0)
def _features(graph: Any, state: Any, stats: DeviceModality, part: Stored) -> Float[Array, "row feature"]:
    return pooled(nnx.merge(graph, state), _batch(part, stats)).astype(jnp.float32)


def _batch(part: Stored, stats: DeviceModality) -> ModalityBatch:
    return standardise(stats._replace(values=part.values, mask=part.mask))


def _in_batches(function: Callable[[Any], Any], part: Any, size: int | None = None) -> Any:
    """Returns a function of batches of rows for any number of rows; the last batch is padded."""
    count = len(jax.tree.leaves(part)[0])
    size = min(size or default_predict_batch(), count)
    done = []
    for start in range(0, count, size):
        done.append(function(take(part, np.resize(np.arange(start, min(start + size, count)), size))))
    return jax.tree.map(lambda *arrays: np.concatenate([*map(np.asarray, arrays)])[:count], *done)
