"""One strategy as three compiled functions, those of step.py, and what the compiler tells of them."""

import dataclasses
import functools
import math
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training import compile_cache, mesh
from fusion_bench.training.step import (
    Functions,
    TrainState,
    Variables,
    make_functions,
    predict,
    split_module,
)

# A program that runs once a seed should compile quickly.
_RUNS_ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0}
_SEED = jax.ShapeDtypeStruct((), jnp.int32)  # and any other whole number


def default_predict_batch() -> int:
    """Returns how many examples are predicted at once: what stays in a CPU's cache, or occupies an accelerator.

    On two CPU cores `small` predicts twice as many examples a second in batches of 100 as in batches of 500.
    """
    size = 100 if jax.default_backend() == "cpu" else 1000
    return size + -size % mesh.device_count()


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of one strategy.

    Attributes:
      init: seed → TrainState.
      train: (state, data, the epoch's order of training indices, seed, steps) → state, mean loss. `state` is
        donated. The steps must end within the epoch in which they begin.
      predict: (variables, data, indices [predict_batch]) → logits.
      graph: the module in evaluation mode, to be merged with Variables.
      steps_per_epoch: updates; a last incomplete batch is left out, another one in each epoch.
      batch_size: examples in an update.
      predict_batch: examples in a prediction.
      params: number of trained parameters.
      compile_seconds: of all three together; NaN if one of them was read from the cache.
      train_flops: floating-point operations per training example, forward and backward.
      inference_flops: per example, forward only.
    """

    init: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, Array]]
    predict: Callable[..., Array]
    graph: Any
    steps_per_epoch: int
    batch_size: int
    predict_batch: int
    params: int
    compile_seconds: float
    train_flops: float
    inference_flops: float

    def predictions(
        self, variables: Variables, data: DeviceData, indices: Int[np.ndarray, " example"]
    ) -> Float[np.ndarray, "example class"]:
        """Returns the logits of the examples at `indices`, in batches of one size."""
        logits = []
        for start in range(0, len(indices), self.predict_batch):
            batch = indices[start : start + self.predict_batch]
            padded = np.resize(batch, self.predict_batch)
            logits.append(np.asarray(self.predict(variables, data, padded))[: len(batch)])
        return np.concatenate(logits)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A module that is not trained further, compiled for prediction. Fields are as in `Program`."""

    predict: Callable[..., Array]
    predict_batch: int
    variables: Variables
    params: int
    compile_seconds: float
    inference_flops: float


def compile_predictor(module: nnx.Module, data: DeviceData, predict_batch: int | None = None) -> Predictor:
    """Compiles the prediction of a built module, with its present variables, in batches of one size."""
    predict_batch = predict_batch or default_predict_batch()
    graph, variables = split_module(module)
    variables = mesh.replicate(variables)
    seconds = _stopwatch()
    compiled = _compile_predict(graph, variables, data, predict_batch)
    return Predictor(
        predict=compiled,
        predict_batch=predict_batch,
        variables=variables,
        params=_count(variables.params),
        compile_seconds=seconds(),
        inference_flops=_flops(compiled) / predict_batch,
    )


def predict_bytes(graph: Any, variables: Variables, data: DeviceData, batch_size: int) -> float | None:
    """Returns the bytes that a prediction reads and writes, an example; None where the compiler does not tell.

    XLA counts a whole dataset as read where a batch is gathered from it; so here the data are one batch.
    """
    few = _examples_of(data, batch_size)
    return _bytes(_compile_predict(graph, variables, few, batch_size, _RUNS_ONCE), batch_size)


def train_bytes(functions: Functions, data: DeviceData) -> float | None:
    """Returns what `predict_bytes` does, of a training step."""
    state = jax.eval_shape(functions.init, _SEED)
    few = _examples_of(data, functions.batch_size)
    lowered = _lower_train(functions, state, few, functions.batch_size)
    return _bytes(lowered.compile(compiler_options(trains=True) | _RUNS_ONCE), functions.batch_size)


def compile_fixed(
    graph: Any, variables: Variables, data: DeviceData, batch_size: int
) -> Callable[..., Array]:
    """Compiles a prediction with its weights built in, as for a model that is deployed: (data, indices) → logits.

    What depends on weights alone, a kernel's transform above all, is then computed by the compiler.
    """
    batch = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    function = functools.partial(
        predict, graph, jax.tree.map(jnp.asarray, variables)
    )  # restored ones are NumPy's
    return jax.jit(function).lower(data, batch).compile(compiler_options())


def compile_program(
    spec: StrategySpec,
    task: Task,
    model: ModelConfig,
    training: TrainingConfig,
    data: DeviceData,
    num_train: int,
    predict_batch: int | None = None,
) -> Program:
    """Compiles a strategy for a task, a budget and the shapes of a dataset.

    Args:
      spec: the strategy and its options.
      task: what there is to join, and how many classes.
      model: sizes of the encoders.
      training: budget and optimiser.
      data: only its shapes matter.
      num_train: number of training examples.
      predict_batch: number of examples in a prediction; None is `default_predict_batch()`.
    """
    predict_batch = predict_batch or default_predict_batch()
    functions = make_functions(spec, task, model, training, num_train)
    seconds = _stopwatch()
    state = jax.eval_shape(functions.init, _SEED)
    init_compiled = mesh.jit(functions.init).lower(_SEED).compile(compiler_options() | _RUNS_ONCE)
    train_compiled = _lower_train(functions, state, data, num_train).compile(compiler_options(trains=True))
    predict_compiled = _compile_predict(functions.graph, state.variables, data, predict_batch)
    compile_seconds = seconds()
    return Program(
        init=init_compiled,
        train=train_compiled,
        predict=predict_compiled,
        graph=functions.graph,
        steps_per_epoch=functions.steps_per_epoch,
        batch_size=functions.batch_size,
        predict_batch=predict_batch,
        params=_count(state.variables.params),
        compile_seconds=compile_seconds,
        train_flops=_flops(train_compiled) / functions.batch_size,
        inference_flops=_flops(predict_compiled) / predict_batch,
    )


def count_params(spec: StrategySpec, task: Task, model: ModelConfig) -> int:
    """Returns the number of trained parameters of a strategy; computes nothing."""
    abstract = nnx.eval_shape(lambda key: spec.build(Blueprint(task, model, key)), jax.random.key(0))
    return _count(nnx.state(abstract, nnx.Param))


def count_train_flops(
    spec: StrategySpec,
    task: Task,
    model: ModelConfig,
    training: TrainingConfig,
    data: DeviceData,
    num_train: int,
) -> float:
    """Returns `Program.train_flops` of the program that `compile_program` would make, from a quicker compilation."""
    functions = make_functions(spec, task, model, training, num_train)
    lowered = _lower_train(functions, jax.eval_shape(functions.init, _SEED), data, num_train)
    return _flops(lowered.compile(compiler_options(trains=True) | _RUNS_ONCE)) / functions.batch_size


def _lower_train(functions: Functions, state: TrainState, data: DeviceData, num_train: int):
    order = jax.ShapeDtypeStruct((num_train,), jnp.int32)
    return mesh.jit(functions.train, donate_argnums=0).lower(state, data, order, _SEED, _SEED)


def compiler_options(*, trains: bool = False) -> dict[str, Any]:
    """Returns what a CPU's compiler is told; experiments/pytorch_speed.py has the figures.

    Jax 0.10 can emit fused loops in two ways; the older compiles in about half the time and runs as fast. It gives
    matrix products to a library that is slow at batches of middling ones, unless it may use that for sums only.
    """
    if jax.default_backend() != "cpu" or jax.__version_info__ >= (0, 11):
        return {}
    library = "LIBRARY_FUSION_TYPE_REDUCE" if trains else ""
    return {"xla_cpu_use_fusion_emitters": False, "xla_cpu_experimental_ynn_fusion_type": library}


def _compile_predict(
    graph: Any,
    variables: Variables,
    data: DeviceData,
    predict_batch: int,
    options: Mapping[str, Any] = types.MappingProxyType({}),
) -> Callable[..., Array]:
    batch = jax.ShapeDtypeStruct((predict_batch,), jnp.int32)
    function = functools.partial(predict, graph)
    return mesh.jit(function).lower(variables, data, batch).compile(compiler_options() | dict(options))


def _examples_of(data: DeviceData, count: int) -> DeviceData:
    """Returns the shapes of a dataset that has so many examples."""

    def few(array: Array) -> Any:
        return jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype)

    modalities = {name: m._replace(values=few(m.values)) for name, m in data.modalities.items()}
    return DeviceData(modalities, few(data.labels))


def _stopwatch() -> Callable[[], float]:
    """Returns a function that tells the seconds since now, NaN if a program was read from the cache in between."""
    start, hits = time.perf_counter(), compile_cache.hits()
    return lambda: time.perf_counter() - start if compile_cache.hits() == hits else math.nan


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _bytes(compiled, batch_size: int) -> float | None:
    moved = (compiled.cost_analysis() or {}).get("bytes accessed")
    return moved and moved / batch_size


def _flops(compiled) -> float:
    """XLA counts a loop's body once: of a training program, that is one step. What it counts is one device's part."""
    analysis = compiled.cost_analysis() or {}
    return mesh.device_count() * float(analysis.get("flops", float("nan")))
