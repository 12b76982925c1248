"""Measured ceilings of a device: a large matrix product, and reading and writing a large array."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from fusion_bench.training.lowering import compiler_options
from fusion_bench.training.timing import TimedLoop

MATMUL_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
LONG = 0.05
"""Duration of a product, in seconds, beyond which no larger one is tried."""
ARRAY_BYTES = 1 << 28
"""Size of the array, larger than caches."""


def matmuls(
    x: Float[Array, "row column"], weights: Float[Array, "column column"], count: Int[Array, ""]
) -> Float[Array, "row column"]:
    """Multiplies x by the weights `count` times."""
    return lax.fori_loop(0, count, lambda _, y: y @ weights, x)


def additions(x: Float[Array, " value"], count: Int[Array, ""]) -> Float[Array, " value"]:
    """Adds 1 to every value `count` times, which reads and writes all of them each time."""
    return lax.fori_loop(0, count, lambda _, y: y + 1, x)


def fastest_matmul(dtype: jnp.dtype) -> tuple[TimedLoop, int]:
    """Returns products of n × n matrices, their work in floating-point operations, and the n that is fastest."""
    best, best_rate, best_size = None, 0.0, 0
    for size in MATMUL_SIZES:
        timed = _matmul_pass(size, dtype)
        rate = timed.rate()
        if rate > best_rate:
            best, best_rate, best_size = timed, rate, size
        if timed.work / rate > LONG:
            break
    assert best is not None
    return best, best_size


def _matmul_pass(size: int, dtype: jnp.dtype) -> TimedLoop:
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    weights = x / size**0.5  # keeps the products' scale
    compiled = _compile(jax.jit(matmuls), x, weights)

    def steps(count: int) -> None:
        jax.block_until_ready(compiled(x, weights, np.int32(count)))

    return TimedLoop(steps, 2.0 * size**3)


def array_pass() -> TimedLoop:
    """Returns additions to an array of float32 in place, their work in bytes read and written."""
    x = jnp.zeros(ARRAY_BYTES // 4, jnp.float32)
    compiled = _compile(jax.jit(additions, donate_argnums=0), x)

    def steps(count: int) -> None:
        nonlocal x
        x = jax.block_until_ready(compiled(x, np.int32(count)))

    return TimedLoop(steps, 2.0 * ARRAY_BYTES)


def _compile(function, *arrays: Array) -> Callable[..., Array]:
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return function.lower(*arrays, count).compile(compiler_options())
