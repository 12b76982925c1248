"""A stored run as a classifier: raw inputs in, calibrated probabilities out."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float64, Int
from scipy.special import softmax

from fusion_bench.data.batches import DeviceModality, standardise
from fusion_bench.data.captions.channel import Channel, make_channel, sample_neutral
from fusion_bench.data.captions.spec import parse_spec
from fusion_bench.data.dataset import Dataset, ModalitySpec
from fusion_bench.data.inputs import as_stored
from fusion_bench.errors import UserError
from fusion_bench.metrics.calibration import fit_temperature
from fusion_bench.store import Run, Store
from fusion_bench.store.loaded import LoadedRun, load_run
from fusion_bench.training.lowering import compiler_options
from fusion_bench.training.step import split_module


class Argument(NamedTuple):
    """One array that the model's function takes: its name, its shape without the batch, and its type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained model with all that a prediction from raw inputs needs.

    Attributes:
      loaded: the run, its module, tokenizers, class names and the training data's statistics.
      temperature: divides the logits; fitted on the run's validation examples (Guo et al. 2017, arXiv:1706.04599).
    """

    loaded: LoadedRun
    temperature: float

    @property
    def run(self) -> Run:
        return self.loaded.run

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.loaded.class_names

    @property
    def modalities(self) -> Mapping[str, ModalitySpec]:
        """Specifications of the modalities that the model reads, by name."""
        return self.loaded.modalities

    @functools.cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """Arrays that `logits` takes, in order: a sequence's values are followed by NAME_mask, bool."""
        found = []
        for name, spec in self.modalities.items():
            found.append(Argument(name, spec.shape, spec.dtype))
            if spec.kind == "sequence":
                found.append(Argument(f"{name}_mask", spec.shape[:1], "bool"))
        return tuple(found)

    @functools.cached_property
    def logits(self) -> Callable[..., Float[Array, "batch class"]]:
        """Uncompiled function of the arrays of `arguments`, as the data store them, with the variables inside.

        It standardises them. The logits are not yet divided by the temperature.
        """
        graph, variables = split_module(self.loaded.model)

        def logits(*arrays: Array) -> Float[Array, "batch class"]:
            given = dict(zip((argument.name for argument in self.arguments), arrays, strict=True))
            inputs = {}
            for name in self.modalities:
                stats = (jnp.asarray(stat) for stat in self.loaded.stats[name])
                inputs[name] = standardise(DeviceModality(given[name], *stats, mask=given.get(f"{name}_mask")))
            arrays_of = jax.tree.map(jnp.asarray, variables)  # those of a checkpoint are NumPy's
            return nnx.merge(graph, *arrays_of)(inputs).logits.astype(jnp.float32)

        return logits

    @functools.cached_property
    def compiled(self) -> Callable[..., Float[Array, "batch class"]]:
        """`logits`, compiled for each batch size that it is called with."""
        return jax.jit(self.logits, compiler_options=compiler_options())

    def arrays(self, examples: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """Returns the arrays of `arguments` of some examples: each has its modalities by name.

        A grid is an array of the model's shape, a vector likewise, a text a string or its token ids, a sequence an
        array [token, feature] of no more steps than in training.

        Raises:
          UserError: a modality is missing, or is not of the right kind, shape and range.
        """
        found = []
        for name, spec in self.modalities.items():
            if any(name not in example for example in examples):
                way = ", or let its neutral value stand for it (missing: neutral)" * (name in self.neutral)
                raise UserError(f"{name} is missing; give it{way}")
            given = [example[name] for example in examples]
            if spec.kind == "sequence":
                given = [np.asarray(row) for row in given]
                for row in given:
                    if row.ndim != 2 or row.shape[1] != spec.shape[1]:
                        raise UserError(f"{name} has shape {row.shape}; (step, {spec.shape[1]}) is right")
                steps = np.array([len(row) for row in given])
                if steps.max() > spec.shape[0] or steps.min() == 0:
                    raise UserError(f"{name} has {steps.max()} steps; 1 to {spec.shape[0]} are right")
                given = [np.pad(row, ((0, spec.shape[0] - len(row)), (0, 0))) for row in given]
                found += [self._stored(name, spec, given), np.arange(spec.shape[0]) < steps[:, None]]
            else:
                found.append(self._stored(name, spec, given))
        return found

    def stored(self, dataset: Dataset, rows: Int[np.ndarray, " example"]) -> list[np.ndarray]:
        """Returns the arrays of `arguments` of some examples of the run's data."""
        found = []
        for name in self.modalities:
            modality = dataset.modalities[name]
            found.append(modality.values[rows])
            if modality.kind == "sequence":
                mask = modality.mask
                found.append(np.ones(found[-1].shape[:2], bool) if mask is None else mask[rows])
        return found

    def _stored(self, name: str, spec: ModalitySpec, given: list[Any]) -> np.ndarray:
        if spec.dtype == "uint8" and all(np.shape(one) == spec.shape and one.dtype == np.uint8 for one in given):
            return np.stack(given)  # as decoded; a dark one is no mistake of scale
        return as_stored(name, given, spec, self.loaded.tokenizers.get(name), stats=self.loaded.stats[name])

    def predict(self, examples: Sequence[Mapping[str, Any]], size: int = 0) -> Float64[np.ndarray, "example class"]:
        """Returns the calibrated probabilities of some examples, in a batch of `size`, at least of their number.

        Each batch size is compiled once. The examples are as `arrays` takes them, which raises the errors.
        """
        rows = np.arange(max(size, len(examples))) % len(examples)
        logits = self.compiled(*(array[rows] for array in self.arrays(examples)))
        return self.probabilities(np.asarray(logits)[: len(examples)])

    def probabilities(self, logits: Float[np.ndarray, "batch class"]) -> Float64[np.ndarray, "batch class"]:
        """Returns softmax(logits / temperature)."""
        return softmax(np.asarray(logits, np.float64) / self.temperature, axis=1)

    @functools.cached_property
    def neutral(self) -> Mapping[str, Any]:
        """A value of each modality that stands for a missing one, where there is such.

        Of a grid or vector it is the training examples' mean of each channel, which is 0 after standardisation. Of a
        text it is a caption that says nothing, if the channel of the run has such captions and these do not state a
        shift.
        """
        found: dict[str, Any] = {}
        for name, spec in self.modalities.items():
            mean, _ = self.loaded.stats[name]
            if spec.kind in ("grid", "vector"):
                value = np.broadcast_to(mean, spec.shape)
                found[name] = np.rint(value).astype(np.uint8) if spec.dtype == "uint8" else value.astype(np.float32)
            elif (text := self._neutral_text(name)) is not None:
                found[name] = text
        return found

    def channel(self, name: str) -> Channel | None:
        """Returns the channel that a text of the training data was drawn from; None if it came with the data.

        A speaker is taken to name the right class always, as what people said is not stored with a run.
        """
        if self.run.data.get("captions_modality") != name or name not in self.loaded.tokenizers:
            return None
        try:
            spec = parse_spec(self.run.identity["data"]["captions"])
            return make_channel(dataclasses.replace(spec, speaker=None), self.class_names)
        except UserError:  # captions of a file
            return None

    def _neutral_text(self, name: str) -> str | None:
        channel = self.channel(name)
        texts = None if channel is None or channel.spec.shift > 0 else sample_neutral(channel, 1, 0)
        return None if texts is None else texts[0]

    def fill(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """Returns an example with the neutral value in the place of each modality that it lacks.

        Raises:
          UserError: a modality is missing that has no neutral value.
        """
        lacking = [name for name in self.modalities if name not in example and name not in self.neutral]
        if lacking:
            raise UserError(f"{lacking[0]} is missing, and the run has no neutral value of it")
        return {name: example.get(name, self.neutral.get(name)) for name in self.modalities}


def load_classifier(directory: Path, identifier: str) -> Classifier:
    """Returns the classifier of a stored run; see `fusion_bench.load_run`.

    Raises:
      UserError: there is no such run, it has no model, or it is damaged.
    """
    loaded = load_run(directory, identifier)
    stored = Store(Path(directory).expanduser(), read_only=True).predictions(loaded.run.id)
    return Classifier(loaded, fit_temperature(stored["validation_logits"], stored["validation_labels"]))
