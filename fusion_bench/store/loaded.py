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
from jaxtyping import Array, Bool, Float, Int

from fusion_bench import files
from fusion_bench.config import DataConfig, ModelConfig
from fusion_bench.data.batches import DeviceData, DeviceModality
from fusion_bench.data.captions.spec import placed_name
from fusion_bench.data.captions.tokenizer import load_tokenizer
from fusion_bench.data.dataset import Dataset, ModalitySpec, Task
from fusion_bench.data.inputs import as_stored, by_name
from fusion_bench.data.load import load_dataset
from fusion_bench.data.sequences import step_mask
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
      tokenizers: what made tokens of each text, by modality; none where the data brought tokens of their own.
      modalities: those that the model reads, by name.
      class_names: by label.
      stats: mean and standard deviation of each modality by channel; empty for tokens.
    """

    run: Run
    model: nnx.Module
    tokenizers: "Mapping[str, tokenizers.Tokenizer]"
    modalities: Mapping[str, ModalitySpec]
    class_names: tuple[str, ...]
    stats: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def predict(self, inputs: Mapping[str, Any]) -> Float[np.ndarray, "example class"]:
        """Returns the logits of any number of examples.

        Args:
          inputs: the modalities by name, as a dataset stores them or a file holds them: images [example, height, width,
            channel] of 8 bits, or floats k / 255; other grids, float; tokens, int [example, token], or the texts
            themselves, strings; sequences, float [example, token, feature] of no more steps than in training, with
            NAME_mask, bool [example, token], or NAME_length, int [example], beside them where steps are padding, and
            in any case where the training data had one; vectors, float [example, feature]. A modality that the model
            does not read is left aside.

        Raises:
          UserError: a modality is missing, or is not of the right kind, shape and range.
        """
        inputs = by_name(inputs)
        values = {name: self._values(name, spec, inputs) for name, spec in self.modalities.items()}
        masks = {
            name: self._mask(name, spec, inputs) for name, spec in self.modalities.items() if spec.kind == "sequence"
        }
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
                name: DeviceModality(*map(jnp.asarray, (array[rows], *self.stats[name])), alternatives=None)
                for name, array in values.items()
            }
            batch |= {name: batch[name]._replace(mask=jnp.asarray(mask[rows])) for name, mask in masks.items()}
            return _predict(graph, variables, DeviceData(batch, jnp.zeros(size, jnp.int32)), jnp.arange(size))

        return in_batches(predict_rows, np.arange(count), size)

    def _values(self, name: str, spec: ModalitySpec, inputs: Mapping[str, Any]) -> np.ndarray:
        """Returns a modality as an array of the type that a dataset has."""
        if name not in inputs:
            raise UserError(f"{name} is missing; the model reads {', '.join(self.modalities)}")
        mask = None
        if spec.kind == "sequence":
            for key in inputs:
                if str(key).startswith(f"{name}_") and key not in self._known:
                    raise unknown_name("input", key, _masks_of(name))
            mask = functools.partial(self._mask, name, spec, inputs)
        return as_stored(name, inputs[name], spec, self.tokenizers.get(name), mask, self.stats[name])

    def _mask(self, name: str, spec: ModalitySpec, inputs: Mapping[str, Any]) -> Bool[np.ndarray, "example token"]:
        """Returns where a sequence has a step, up to the length of training."""
        is_masked = self._facts.get(name, {}).get("masked", False)  # not in older records
        if is_masked and not {*_masks_of(name)} & {*inputs}:
            raise UserError(
                f"{name} had padding in training; give {' or '.join(_masks_of(name))} to say where steps are"
            )
        count, steps = np.shape(inputs[name])[:2]
        return np.pad(step_mask(name, inputs, (count, steps)), ((0, 0), (0, spec.shape[0] - steps)))

    @property
    def _facts(self) -> Mapping[str, Any]:
        """The facts of each modality of the data in the record."""
        return self.run.data.get("inputs", {})

    @property
    def _known(self) -> set[str]:
        """The names of all modalities of the data and of their masks."""
        names = {*self._facts, *self.modalities}
        return {*names, *(key for name in names for key in _masks_of(name))}


def _masks_of(name: str) -> tuple[str, str]:
    return f"{name}_mask", f"{name}_length"


_predict = jax.jit(predict, static_argnums=0)


def load_run(directory: Path | str, identifier: str) -> LoadedRun:
    """Returns a trained model with its tokenizers, from the folder of its run alone: see `fusion_bench.load_run`.

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
    read = specs if run.modality is None else {run.modality: specs[run.modality]}
    tokenizers = {name: load_tokenizer(path) for name, path in store.tokenizer_paths(run.id).items()}
    return LoadedRun(run, load_model(store, run), tokenizers, read, tuple(run.data["class_names"]), stats)


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
    # without initial values, which would be compiled and drawn to be replaced
    module = nnx.eval_shape(lambda: strategy.build(Blueprint(task, config, run_key(run.seed, "init"))))
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


def load_data(run: Run, places: DataConfig) -> Dataset:
    """Loads the data of a run; `places` has their paths on this machine, as a run records only the names of files.

    Raises:
      UserError: they are not there, or are others.
    """
    stated = (
        run.identity["data"]
        | run.data.get("reading", {})
        | {"data_dir": places.data_dir, "cache_dir": places.cache_dir}
    )
    if files.recorded_name(places.source) == stated["source"]:
        stated["source"] = places.source
    stated["captions"] = placed_name(stated["captions"], places.captions)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()
    }
    dataset = load_dataset(DataConfig(**values))
    if dataset.fingerprint != run.identity["fingerprint"]:
        raise UserError(f"{run.id} was trained on other data than those found here")
    return dataset


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
        name: ModalitySpec(fact["kind"], tuple(fact["shape"]), fact["vocabulary_size"], dtype=fact["dtype"])
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
