"""A stored run as a model again, from its folder alone."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from fusion_bench.benchmark.environment import code_digest, operator_digest
from fusion_bench.benchmark.records import REFERENCE, restore
from fusion_bench.config import ModelConfig
from fusion_bench.data.batches import DeviceData, DeviceModality, gather
from fusion_bench.data.dataset import ModalitySpec, Task
from fusion_bench.data.tokenizer import encode, load_tokenizer
from fusion_bench.errors import UserError, unknown_name
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import parse_strategies
from fusion_bench.store import Run, Store
from fusion_bench.training.program import default_predict_batch
from fusion_bench.training.step import run_key

if TYPE_CHECKING:
    import tokenizers


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A run, its model, and what turns raw inputs into the model's.

    Attributes:
      run: the record.
      model: the NNX module with its trained variables, in evaluation mode; its inputs are standardised batches.
      tokenizer: what made tokens of the captions; None where the data brought tokens of their own.
      modalities: those that the model reads, by name.
      class_names: by label.
      standards: mean and deviation of each modality by channel; empty for tokens.
    """

    run: Run
    model: nnx.Module
    tokenizer: "tokenizers.Tokenizer | None"
    modalities: Mapping[str, ModalitySpec]
    class_names: tuple[str, ...]
    standards: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def predict(self, inputs: Mapping[str, Any]) -> Float[np.ndarray, "example class"]:
        """Returns the logits of any number of examples.

        Args:
          inputs: the modalities by name, as a dataset stores them: grids, uint8 in 0..255 or float [example, height,
            width, channel]; tokens, int [example, token], or the texts themselves, a list of strings; vectors, float
            [example, feature]. A modality that the model does not read is left aside.

        Raises:
          UserError: a modality is missing, or is not of the right shape.
        """
        values = {name: self._values(name, spec, inputs) for name, spec in self.modalities.items()}
        counts = {name: len(array) for name, array in values.items()}
        count = min(counts.values())
        if max(counts.values()) != count:
            raise UserError(f"the modalities are of different numbers of examples: {counts}")
        graph, state = nnx.split(self.model)
        logits = [np.zeros((0, len(self.class_names)), np.float32)]
        size = min(count, default_predict_batch())  # so that there is one shape to compile for
        for start in range(0, count, size or 1):
            rows = np.resize(np.arange(start, min(start + size, count)), size)
            batch = {
                name: DeviceModality(jnp.asarray(array[rows]), *map(jnp.asarray, self.standards[name]))
                for name, array in values.items()
            }
            data = DeviceData(batch, jnp.zeros(size, jnp.int32))
            logits.append(np.asarray(_predict(graph, state, data))[: count - start])
        return np.concatenate(logits)

    def _values(self, name: str, spec: ModalitySpec, inputs: Mapping[str, Any]) -> np.ndarray:
        """Returns a modality as an array of the type that a dataset has."""
        if name not in inputs:
            raise UserError(f"{name} is missing; the model reads {', '.join(self.modalities)}")
        given = inputs[name]
        if spec.kind == "tokens" and len(given) and isinstance(given[0], str):
            if self.tokenizer is None:
                raise UserError(f"{name} is text, and the run has no tokenizer; give token ids")
            return encode(self.tokenizer, list(given), spec.shape[0])
        array = np.asarray(given)
        if array.shape[1:] != spec.shape or array.ndim != len(spec.shape) + 1:
            wanted = ", ".join(map(str, ("example", *spec.shape)))
            raise UserError(f"{name} has shape {array.shape}; it must be ({wanted})")
        if spec.kind != "tokens":
            return array if array.dtype == np.uint8 else array.astype(np.float32)
        if array.size and not 0 <= array.min() <= array.max() < (spec.vocabulary_size or 0):
            raise UserError(f"{name} has token ids outside 0..{(spec.vocabulary_size or 0) - 1}")
        return array.astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _predict(graph: Any, state: Any, data: DeviceData) -> Float[Array, "batch class"]:
    inputs, _ = gather(data, jnp.arange(data.labels.shape[0]))
    return nnx.merge(graph, state)(inputs).logits


def load_run(directory: Path | str, identifier: str) -> LoadedRun:
    """Returns a trained model with its tokenizer, from the folder of its run alone.

    Args:
      directory: the --out of a study.
      identifier: the run's, or the beginning of it, where that is of one run only: "concat-s0".

    Raises:
      UserError: there is no such run, it has no model, or it is damaged.

    Warns:
      UserWarning: the code that makes the model has changed since.
    """
    store = Store(Path(directory), read_only=True)
    run = _find(store, identifier)
    if run.strategy == REFERENCE:
        raise UserError(f"{run.id} has no model: the Bayes reference is computed from that of image-only")
    if run.status != "complete":
        raise UserError(f"{run.id} has no model: it failed, {run.reason}")
    try:
        facts = run.data["inputs"]
        class_names = tuple(run.data["class_names"])
    except KeyError:
        raise UserError(f"{run.id} does not say what its model was built for; run it again") from None
    specs = {
        name: ModalitySpec(fact["kind"], tuple(fact["shape"]), fact["vocabulary_size"])
        for name, fact in facts.items()
    }
    standards = {
        name: (np.array(fact["mean"], np.float32), np.array(fact["deviation"], np.float32))
        for name, fact in facts.items()
    }
    task = Task(specs, len(class_names))
    (strategy,) = parse_strategies(run.strategy, task)
    config = ModelConfig(**run.identity["model"])
    module = strategy.build(Blueprint(task, config, run_key(run.seed, "init")))
    changed = [
        name
        for name, now in (("code", code_digest()), ("operator", operator_digest(strategy.registration.make)))
        if run.identity.get(name) != now
    ]
    if changed:
        warnings.warn(
            f"{run.id} was made by version {run.identity['version']}, commit {run.environment.get('commit', '?')}; its "
            f"{' and '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed since, so that the model may "
            "predict otherwise than it did",
            stacklevel=2,
        )
    restore(store, run, module)
    module.eval()
    path = store.tokenizer_path(run.id)
    read = specs if run.modality is None else {run.modality: specs[run.modality]}
    tokenizer = None if path is None else load_tokenizer(path)
    return LoadedRun(run, module, tokenizer, read, class_names, standards)


def _find(store: Store, identifier: str) -> Run:
    names = store.identifiers()
    found = [identifier] if identifier in names else [n for n in names if n.startswith(identifier)]
    if len(found) > 1:  # "concat-s1" is not meant to be of seed 10
        found = [name for name in found if name.startswith(f"{identifier}-")] or found
    if len(found) > 1:  # what learns the class, or tries a setting, only serves others
        runs = {name: store.get(name) for name in found}
        found = [
            n for n, run in runs.items() if run is not None and run.identity["target"] == "label"
        ] or found
    if not found:
        raise unknown_name("run", identifier, names)
    if len(found) > 1:
        raise UserError(f"{identifier!r} could be {' or '.join(found[:4])}{', ...' * (len(found) > 4)}")
    run = store.get(found[0])
    if run is None:
        raise UserError(f"{found[0]} is damaged: {store.damaged[found[0]]}; run it again")
    return run
