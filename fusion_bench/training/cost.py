"""Costs that follow from a strategy's definition: parameters, FLOPs and bytes moved, as the compiler counts them."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training import mesh
from fusion_bench.training.lowering import RUNS_ONCE, SEED, compiler_options, lower_predict, lower_train
from fusion_bench.training.step import Functions, Variables, make_functions


def flops(compiled: jax.stages.Compiled) -> float:
    """Returns the floating-point operations on all devices; NaN where the compiler does not count them.

    XLA counts a loop's body once; for a training program that is one step.
    """
    counted = (compiled.cost_analysis() or {}).get("flops", float("nan"))
    return mesh.device_count() * float(counted)  # XLA counts one device's part


def count(params: Any) -> int:
    """Returns the number of elements in all arrays of a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_params(spec: StrategySpec, task: Task, model: ModelConfig) -> int:
    """Returns the number of trained parameters of a strategy; computes nothing."""
    abstract = nnx.eval_shape(lambda key: spec.build(Blueprint(task, model, key)), jax.random.key(0))
    return count(nnx.state(abstract, nnx.Param))


def count_train_flops(
    spec: StrategySpec, task: Task, model: ModelConfig, training: TrainingConfig, data: DeviceData, num_train: int
) -> float:
    """Returns `Program.train_flops` as `compile_program` would count them, from a quicker compilation."""
    functions = make_functions(spec, task, model, training, num_train)
    lowered = lower_train(functions, jax.eval_shape(functions.init, SEED), data, num_train)
    return flops(lowered.compile(compiler_options(trains=True) | RUNS_ONCE)) / functions.batch_size


def predict_bytes(graph: Any, variables: Variables, data: DeviceData, batch_size: int) -> float | None:
    """Returns the bytes that a prediction reads and writes, per example; None where the compiler does not count them.

    XLA counts a whole dataset as read if a batch is gathered from it, so the data here are one batch.
    """
    lowered = lower_predict(graph, variables, _examples_of(data, batch_size), batch_size)
    return _bytes(lowered, batch_size, compiler_options())


def train_bytes(functions: Functions, data: DeviceData) -> float | None:
    """Returns the bytes that a training step reads and writes, counted as in `predict_bytes`."""
    state, size = jax.eval_shape(functions.init, SEED), functions.batch_size
    lowered = lower_train(functions, state, _examples_of(data, size), size)
    return _bytes(lowered, size, compiler_options(trains=True))


def _bytes(lowered: jax.stages.Lowered, batch_size: int, options: dict[str, Any]) -> float | None:
    moved = (lowered.compile(options | RUNS_ONCE).cost_analysis() or {}).get("bytes accessed")
    return moved and moved / batch_size


def _examples_of(data: DeviceData, count: int) -> DeviceData:
    """Returns the shapes of a dataset with `count` examples."""

    def few(array: Array) -> Any:
        return jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype)

    modalities = {
        name: m._replace(values=few(m.values), mask=None if m.mask is None else few(m.mask))
        for name, m in data.modalities.items()
    }
    return DeviceData(modalities, few(data.labels))
