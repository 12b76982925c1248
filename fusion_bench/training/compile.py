"""One strategy as three compiled functions, those of step.py."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training import compile_cache, mesh
from fusion_bench.training.cost import count, flops
from fusion_bench.training.frozen import Frozen, compile_frozen
from fusion_bench.training.lowering import RUNS_ONCE, SEED, compiler_options, lower_predict, lower_train
from fusion_bench.training.step import TrainState, Variables, make_functions, predict, split_module


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
        frozen, trained_on = compile_frozen(functions, state.variables, data, predict_batch)
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


def _stopwatch() -> Callable[[], float]:
    """Returns a function that returns the seconds since now; NaN if a program was read from the cache meanwhile."""
    start, hits = time.perf_counter(), compile_cache.hits()
    return lambda: time.perf_counter() - start if compile_cache.hits() == hits else math.nan
