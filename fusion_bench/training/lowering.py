"""The functions of step.py lowered for this backend, and the compiler's options."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fusion_bench.data.batches import DeviceData
from fusion_bench.training import mesh
from fusion_bench.training.step import Functions, TrainState, Variables, predict

RUNS_ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""Compiler options of a program that runs once: compilation time matters more than run time."""
SEED = jax.ShapeDtypeStruct((), jnp.int32)
"""Shape of a seed or of any other integer argument."""


def lower_train(functions: Functions, state: TrainState, data: DeviceData, num_train: int) -> jax.stages.Lowered:
    """Lowers training on `num_train` examples; the state is donated."""
    order = jax.ShapeDtypeStruct((num_train,), jnp.int32)
    return mesh.jit(functions.train, donate_argnums=0).lower(state, data, order, SEED, SEED)


def lower_predict(
    graph: Any, variables: Variables, data: DeviceData, predict_batch: int, function: Callable[..., Any] = predict
) -> jax.stages.Lowered:
    """Lowers a prediction of `predict_batch` examples: (variables, data, indices) → logits, or the like."""
    batch = jax.ShapeDtypeStruct((predict_batch,), jnp.int32)
    return mesh.jit(functools.partial(function, graph)).lower(variables, data, batch)


def compiler_options(*, trains: bool = False) -> dict[str, Any]:
    """Returns the compiler's options on a CPU; experiments/speed/pytorch_speed.py has the measurements.

    Of the two emitters of fused loops in jax 0.10, the older one compiles faster to equally fast code. Its library for
    matrix products is slow at batches of medium size, so it is restricted to sums.
    """
    if jax.default_backend() != "cpu" or jax.__version_info__ >= (0, 11):
        return {}
    library = "LIBRARY_FUSION_TYPE_REDUCE" if trains else ""
    return {"xla_cpu_use_fusion_emitters": False, "xla_cpu_experimental_ynn_fusion_type": library}
