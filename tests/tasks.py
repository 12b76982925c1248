"""Tiny tasks, batches and datasets that tests of models, strategies and training share."""

import contextlib
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.cli.choices import parse_choices
from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import ModalityBatch, to_device
from fusion_bench.data.dataset import PAD, Dataset, Modality, ModalitySpec, Task
from fusion_bench.fusion import registry
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import Registration, StrategySpec, resolve
from fusion_bench.fusion.tensor.compact_bilinear import Drawn
from fusion_bench.models.encoders import WIDTHS
from fusion_bench.training import step
from fusion_bench.training.compile import Program, compile_program
from fusion_bench.training.frozen import encoded_data
from fusion_bench.training.lowering import compiler_options

TWO, THREE = ("image", "text"), ("audio", "image", "text")
"""Modalities, in the alphabetical order in which they are joined."""
BATCH, CLASSES, TOKENS, WORDS, STEPS = 6, 4, 5, 7, 5
MICRO = WIDTHS["micro"]
CONFIG = ModelConfig(encoder="micro", dtype="float32")

QUICK = {**compiler_options(), "xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
jit = functools.partial(jax.jit, compiler_options=QUICK)
"""As jax.jit; compiles in half the time what runs once."""

SPECS = {
    "image": ModalitySpec("grid", (8, 8, 3)),
    "text": ModalitySpec("tokens", (TOKENS,), WORDS),
    "audio": ModalitySpec("grid", (6, 5, 1)),
    "motion": ModalitySpec("sequence", (STEPS, 3)),
    "sensor": ModalitySpec("vector", (3,)),
}


@contextlib.contextmanager
def registered(registration: Registration):
    """Adds a strategy to the registry, or puts it in the place of one, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY.known, registration.name, registration)
        yield


def make_task(*names, num_classes=CLASSES):
    return Task({name: SPECS[name] for name in names}, num_classes)


def build(make: Callable[[], Any], *, training: bool = False, seed: int = 0) -> Any:
    """Returns a module whose variables are all random: no bias is zero, no scale one. Compiles nothing."""
    module = nnx.eval_shape(make)
    rng = np.random.default_rng(seed)
    for _, variable in nnx.to_flat_state(nnx.state(module)):
        if isinstance(variable, nnx.Param):
            fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 1
            values = rng.normal(size=variable.shape) / np.sqrt(fan_in)
        elif isinstance(variable, Drawn):
            values = rng.normal(size=variable.shape)
        else:  # variances and temperatures are positive
            values = rng.uniform(0.5, 1.5, variable.shape)
        variable.set_value(jnp.asarray(values, variable.dtype))
    module.train() if training else module.eval()
    return module


def make_strategy(label: str, names: Sequence[str] = TWO, seed: int = 0) -> Any:
    """Returns a strategy of these modalities, with random variables."""
    task = make_task(*names)
    (spec,) = resolve(parse_choices(label), task)
    return build(lambda: spec.build(Blueprint(task, CONFIG, jax.random.key(0))), seed=seed)


def compile_strategy(spec: StrategySpec, dataset: Dataset, training: TrainingConfig) -> Program:
    num_train = len(dataset.splits["train"])
    return compile_program(spec, dataset.task, CONFIG, training, to_device(dataset), num_train)


def count_params(module, *, without: Collection[str] = ()):
    """Returns the number of trained parameters outside the named parts."""
    state = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return sum(leaf[...].size for path, leaf in state if path[0] not in without)


def call(module, *arguments):
    """Returns `module(*arguments)`, compiled."""
    graph, state = nnx.split(module)
    return jit(lambda state, *arguments: nnx.merge(graph, state, copy=True)(*arguments))(state, *arguments)


def make_batch(spec, batch=BATCH, seed=0):
    """Draws a batch of a modality; texts and sequences are of every length, from no word or step to all."""
    rng = np.random.default_rng(seed)
    if spec.kind == "sequence":
        mask = np.arange(spec.shape[0]) < np.arange(batch)[:, None] % (spec.shape[0] + 1)
        values = np.where(mask[:, :, None], rng.normal(size=(batch, *spec.shape)), 0)
        return ModalityBatch(jnp.asarray(values, jnp.float32), jnp.asarray(mask))
    if spec.kind != "tokens":
        return ModalityBatch(jnp.asarray(rng.normal(size=(batch, *spec.shape)), jnp.float32))
    words = rng.integers(PAD + 1, spec.vocabulary_size, (batch, *spec.shape), np.int32)
    words[np.arange(spec.shape[0]) >= np.arange(batch)[:, None] % (spec.shape[0] + 1)] = PAD
    return ModalityBatch(jnp.asarray(words), jnp.asarray(words != PAD))


def make_inputs(task, batch=BATCH, seed=0):
    return {name: make_batch(spec, batch, seed + i) for i, (name, spec) in enumerate(task.modalities.items())}


def make_dataset(count=200, num_train=130, seed=0):
    """Returns images whose colour, and texts whose first word, tell the class four times in five.

    `classes` is told apart by neither: it is noise.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    seen, said = (np.where(rng.random(count) < 0.8, labels, rng.integers(0, CLASSES, count)) for _ in "ab")
    image = rng.integers(0, 100, (count, 8, 8, 3)) + 50 * np.eye(CLASSES, 3)[seen][:, None, None]
    text = rng.integers(0, WORDS, (count, TOKENS))
    text[:, 0] = 1 + said
    order = rng.permutation(count).astype(np.int32)
    return Dataset(
        name="tiny",
        modalities={
            "image": Modality("grid", image.astype(np.uint8), augment=("flip", "translate")),
            "text": Modality("tokens", text.astype(np.int32), WORDS),
        },
        labels=labels,
        classes=rng.integers(0, CLASSES, count).astype(np.int32),
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
        splits={
            "train": np.sort(order[:num_train]),
            "validation": np.sort(order[num_train : num_train + 40]),
            "test": np.sort(order[num_train + 40 :]),
        },
    )


def trained_on(functions, state, data):
    """Returns what training reads: with frozen encoders, the encoded examples."""
    if not functions.is_frozen:
        return data
    encoded = step.encode(functions.graph, state.variables, data, jnp.arange(len(data.labels)))
    return encoded_data(encoded, data.labels)
