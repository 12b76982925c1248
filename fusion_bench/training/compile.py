"""One strategy as three compiled functions, those of step.py."""

import dataclasses
import functools
import math
import operator
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData, DeviceModality
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.encoders import Encoded
from fusion_bench.training import compile_cache, mesh
from fusion_bench.training.cost import count, flops
from fusion_bench.training.lowering import RUNS_ONCE, SEED, compiler_options, lower_predict, lower_train
from fusion_bench.training.step import (
    Functions,
    TrainState,
    Variables,
    encode,
    make_functions,
    predict,
    predict_encoded,
    split_module,
)


def default_predict_batch() -> int:
    """Returns the number of examples in one prediction: few for a CPU's cache, many to occupy an accelerator."""
    size = 100 if jax.default_backend() == "cpu" else 1000
    return size + -size % mesh.device_count()


def in_batches(
    predict: Callable[[Int[np.ndarray, " batch"]], Array], indices: Int[np.ndarray, " example"], size: int
) -> Float[np.ndarray, "example class"]:
    """Returns the logits of any number of examples, from a function of `size` examples; pads the last batch."""
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]
    return np.concatenate([np.asarray(predict(np.resize(batch, size)))[: len(batch)] for batch in batches])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictor:
    """A module compiled for prediction.

    Attributes:
      predict: (variables, data, indices [predict_batch]) → logits.
      predict_batch: examples in a prediction.
      params: number of trained parameters.
      compile_seconds: of all functions together; NaN if one of them was read from the cache.
      inference_flops: floating-point operations per example, forward only.
    """

    predict: Callable[..., Array]
    predict_batch: int
    params: int
    compile_seconds: float
    inference_flops: float


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The compiled functions of a training whose encoders are frozen.

    Attributes:
      encode_batch: (variables, data, indices [predict_batch]) → each encoded modality.
      predict: (variables, encoded data, indices [predict_batch]) → logits.
    """

    encode_batch: Callable[..., Mapping[str, Any]]
    predict: Callable[..., Array]
    predict_batch: int

    def encode(self, variables: Variables, data: DeviceData, indices: Int[np.ndarray, " example"]) -> DeviceData:
        """Returns the data with the encoded modalities of the examples at `indices`; zeros of others."""
        size, found = self.predict_batch, None
        for start in range(0, len(indices), size):
            rows = np.resize(indices[start : start + size], size)
            encoded = jax.tree.map(np.asarray, self.encode_batch(variables, data, rows))
            found = found or jax.tree.map(lambda a: np.zeros((len(data.labels), *a.shape[1:]), a.dtype), encoded)
            jax.tree.map(lambda all_, some: operator.setitem(all_, rows, some), found, encoded)  # noqa: B023
        assert found is not None
        return mesh.replicate(encoded_data(found, data.labels))


def encoded_data(encoded: Mapping[str, Any], labels: Any) -> DeviceData:
    """Returns encoded modalities of all examples in the form of a dataset."""
    modalities = {}
    for name, part in encoded.items():
        values, mask = part if isinstance(part, Encoded) else (part, None)
        width = values.shape[-1:]
        modalities[name] = DeviceModality(values, np.zeros(width, np.float32), np.ones(width, np.float32), mask)
    return DeviceData(modalities, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program(Predictor):
    """The compiled functions of one strategy.

    Attributes:
      init: seed → TrainState.
      train: (state, data, the epoch's order of training indices, seed, steps) → state, mean loss. `state` is
        donated. The steps must end within the epoch in which they begin.
      graph: the module in evaluation mode, to be merged with Variables.
      parts_graph: the remedy's own module, to be merged with the state's `parts`.
      frozen: the functions of a training whose encoders are frozen; None for others.
      steps_per_epoch: updates in an epoch; the incomplete last batch is left out, with other examples in each epoch.
      batch_size: examples in an update.
      train_flops: floating-point operations per training example, forward and backward.
    """

    init: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, Array]]
    graph: Any
    parts_graph: Any = None
    frozen: Frozen | None = None
    steps_per_epoch: int
    batch_size: int
    train_flops: float

    def predictions(
        self, variables: Variables, data: DeviceData, indices: Int[np.ndarray, " example"]
    ) -> Float[np.ndarray, "example class"]:
        """Returns the logits of the examples at `indices`, in batches of one size."""
        return in_batches(lambda batch: self.predict(variables, data, batch), indices, self.predict_batch)

    def training_data(
        self, variables: Variables, data: DeviceData, indices: Int[np.ndarray, " example"]
    ) -> tuple[DeviceData, "Program"]:
        """Returns what training reads, and the program that reads it: with frozen encoders, the encoded examples.

        Only the examples at `indices` are encoded.
        """
        if self.frozen is None:
            return data, self
        encoded = self.frozen.encode(variables, data, indices)
        return encoded, dataclasses.replace(self, predict=self.frozen.predict)


def compile_predictor(module: nnx.Module, data: DeviceData, predict_batch: int | None = None) -> Predictor:
    """Compiles the prediction of a built module, in batches of one size."""
    predict_batch = predict_batch or default_predict_batch()
    graph, variables = split_module(module)
    seconds = _stopwatch()
    compiled = lower_predict(graph, mesh.replicate(variables), data, predict_batch).compile(compiler_options())
    return Predictor(
        predict=compiled,
        predict_batch=predict_batch,
        params=count(variables.params),
        compile_seconds=seconds(),
        inference_flops=flops(compiled) / predict_batch,
    )


def compile_fixed(graph: Any, variables: Variables, data: DeviceData, batch_size: int) -> Callable[..., Array]:
    """Compiles a prediction with constant weights, as for a deployed model: (data, indices) → logits.

    The compiler then evaluates what depends on the weights alone, above all transforms of kernels.
    """
    batch = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    variables = jax.tree.map(jnp.asarray, variables)  # restored ones are NumPy's
    function = functools.partial(predict, graph, variables)
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
    """Compiles a strategy for a task, a budget and the shapes of a dataset with `num_train` training examples."""
    predict_batch = predict_batch or default_predict_batch()
    functions = make_functions(spec, task, model, training, num_train)
    seconds = _stopwatch()
    state = jax.eval_shape(functions.init, SEED)
    init = mesh.jit(functions.init).lower(SEED).compile(compiler_options() | RUNS_ONCE)
    frozen, trained_on = None, data
    if functions.is_frozen:
        frozen, trained_on = _compile_frozen(functions, state.variables, data, predict_batch)
    train = lower_train(functions, state, trained_on, num_train).compile(compiler_options(trains=True))
    predict = lower_predict(functions.graph, state.variables, data, predict_batch).compile(compiler_options())
    return Program(
        init=init,
        train=train,
        predict=predict,
        graph=functions.graph,
        parts_graph=functions.parts_graph,
        frozen=frozen,
        steps_per_epoch=functions.steps_per_epoch,
        batch_size=functions.batch_size,
        predict_batch=predict_batch,
        params=count(state.variables.params),
        compile_seconds=seconds(),
        train_flops=flops(train) / functions.batch_size,
        inference_flops=flops(predict) / predict_batch,
    )


def _compile_frozen(
    functions: Functions, variables: Variables, data: DeviceData, predict_batch: int
) -> tuple[Frozen, DeviceData]:
    """Returns the functions of a training with frozen encoders, and the shapes of its data."""
    graph, count = functions.graph, data.labels.shape[0]
    lowered = lower_predict(graph, variables, data, predict_batch, encode)
    batch = jax.eval_shape(functools.partial(encode, graph), variables, data, np.zeros(predict_batch, np.int32))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), batch)
    encoded = encoded_data(shapes, data.labels)
    predict = lower_predict(graph, variables, encoded, predict_batch, predict_encoded)
    options = compiler_options()
    return Frozen(lowered.compile(options), predict.compile(options), predict_batch), encoded


def _stopwatch() -> Callable[[], float]:
    """Returns a function that returns the seconds since now; NaN if a program was read from the cache meanwhile."""
    start, hits = time.perf_counter(), compile_cache.hits()
    return lambda: time.perf_counter() - start if compile_cache.hits() == hits else math.nan
