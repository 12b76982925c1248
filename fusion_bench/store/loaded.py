"""A stored run as a model again, from its folder alone."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.config import ModelConfig
from fusion_bench.data.batches import DeviceData, DeviceModality
from fusion_bench.data.captions.tokenizer import encode, load_tokenizer
from fusion_bench.data.dataset import ModalitySpec, Task
from fusion_bench.errors import UserError, unknown_name
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import REGISTRY, StrategySpec
from fusion_bench.store import Run, Store
from fusion_bench.store.record import file_name
from fusion_bench.training import ENGINE_VERSION
from fusion_bench.training.compile import default_predict_batch, in_batches
from fusion_bench.training.step import Variables, predict, run_key, split_module

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
      stats: mean and standard deviation of each modality by channel; empty for tokens.
    """

    run: Run
    model: nnx.Module
    tokenizer: "tokenizers.Tokenizer | None"
    modalities: Mapping[str, ModalitySpec]
    class_names: tuple[str, ...]
    stats: Mapping[str, tuple[np.ndarray, np.ndarray]]

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
        if count == 0:
            return np.zeros((0, len(self.class_names)), np.float32)
        graph, variables = split_module(self.model)
        size = min(count, default_predict_batch())  # so that there is one shape to compile for

        def predict_rows(rows: Int[np.ndarray, " batch"]) -> Float[Array, "batch class"]:
            batch = {
                name: DeviceModality(jnp.asarray(array[rows]), *map(jnp.asarray, self.stats[name]))
                for name, array in values.items()
            }
            return _predict(graph, variables, DeviceData(batch, jnp.zeros(size, jnp.int32)), jnp.arange(size))

        return in_batches(predict_rows, np.arange(count), size)

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


_predict = jax.jit(predict, static_argnums=0)


def load_run(directory: Path | str, identifier: str) -> LoadedRun:
    """Returns a trained model with its tokenizer, from the folder of its run alone: see `fusion_bench.load_run`.

    Raises:
      UserError: there is no such run, it has no model, or it is damaged.

    Warns:
      UserWarning: the engine or the strategy has another version today.
    """
    store = Store(Path(directory).expanduser(), read_only=True)
    run = _find(store, identifier)
    if run.family == "reference":
        raise UserError(f"{run.id} has no model: the Bayes reference is computed from a unimodal run")
    if run.identity["target"] == "cost":
        raise UserError(f"{run.id} has no model: it holds the costs of {run.strategy}")
    if run.status != "complete":
        raise UserError(f"{run.id} has no model: it failed, {run.reason}")
    specs = _specs(run)
    stats = {
        name: (np.array(fact["mean"], np.float32), np.array(fact["std"], np.float32))
        for name, fact in run.data["inputs"].items()
    }
    path = store.tokenizer_path(run.id)
    read = specs if run.modality is None else {run.modality: specs[run.modality]}
    tokenizer = None if path is None else load_tokenizer(path)
    return LoadedRun(run, load_model(store, run), tokenizer, read, tuple(run.data["class_names"]), stats)


def load_model(store: Store, run: Run) -> nnx.Module:
    """Returns the module of a complete run with its trained variables, in evaluation mode.

    Raises:
      UserError: the checkpoint is damaged, or the strategy is as `strategy_of` says.

    Warns:
      UserWarning: the engine or the strategy has another version today.
    """
    strategy = strategy_of(run)
    made = run.identity["engine"], run.identity["version"]
    today = ENGINE_VERSION, strategy.registration.version
    if made != today:
        commit = run.environment.get("commit", "?")
        warnings.warn(
            f"{run.id} was made at commit {commit} by version {made[0]} of the engine and {made[1]} of "
            f"{strategy.name}; today's are {today[0]} and {today[1]}, so the model may predict otherwise than it did",
            stacklevel=3,
        )
    task = Task(_specs(run), len(run.data["class_names"]))
    config = ModelConfig(**run.identity["model"])
    module = strategy.build(Blueprint(task, config, run_key(run.seed, "init")))
    restore(store, run, module)
    return module


def strategy_of(run: Run) -> StrategySpec:
    """Returns the strategy of a run; raises UserError where the package that brings it is not installed."""
    spec = StrategySpec(run.identity["name"], run.identity["options"])
    if REGISTRY.match(spec.name) is None:
        brought = run.environment.get("plugins")
        by = f"; it was made with {brought}" if brought else ""
        raise UserError(f"{run.id} cannot be loaded: its strategy {spec.name} is not installed here{by}")
    return spec


def checkpoint_of(variables: Variables) -> dict[str, Any]:
    """Returns a model's variables as checkpoints hold them: nested dictionaries of arrays."""
    return {"params": nnx.to_pure_dict(variables.params), "rest": nnx.to_pure_dict(variables.rest)}


def restore(store: Store, run: Run, module: nnx.Module) -> None:
    """Puts a stored run's variables into a module of the same strategy, and that into evaluation mode.

    Raises:
      UserError: the run has no checkpoint, it is damaged, or of another model.
    """
    _, variables = split_module(module)
    stored = store.restore(run.id, checkpoint_of(variables))
    nnx.replace_by_pure_dict(variables.params, stored["params"])
    nnx.replace_by_pure_dict(variables.rest, stored["rest"])
    nnx.update(module, *variables)


def _specs(run: Run) -> dict[str, ModalitySpec]:
    return {
        name: ModalitySpec(fact["kind"], tuple(fact["shape"]), fact["vocabulary_size"], fact["augment"])
        for name, fact in run.data["inputs"].items()
    }


def _find(store: Store, identifier: str) -> Run:
    names = store.identifiers()
    start = file_name(identifier)
    found = [identifier] if identifier in names else [n for n in names if n.startswith(start)]
    if len(found) > 1:  # "concat-s1" is not meant to be of seed 10
        found = [name for name in found if name.startswith(f"{start}-")] or found
    if len(found) > 1:  # what learns the class, tries a setting or holds costs only serves others
        runs = {name: store.get(name) for name in found}
        found = [n for n, run in runs.items() if run is None or run.identity["target"] == "label"] or found
    if not found:
        raise unknown_name("run", identifier, names)
    if len(found) > 1:
        raise UserError(f"{identifier!r} could be {' or '.join(found[:4])}{', ...' * (len(found) > 4)}")
    run = store.get(found[0])
    if run is None:
        raise UserError(f"{found[0]} is damaged: {store.damaged[found[0]]}; run it again")
    return run
