"""Several devices: each batch is divided among them, everything else is replicated.

A mesh is set for a context; programs compiled inside it divide the examples of every batch along its one axis. XLA adds
the sums over devices. A statistic over a batch is still that of the whole batch, and random numbers are those of one
device, so a step differs from one device's only by the order of sums. (Later steps may differ by more: AdamW turns
gradients that are zero up to rounding, such as those of a bias before a normalisation, into steps of full size.)

Devices of several processes form one mesh after `jax.distributed.initialize`, if every process runs the same program.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from fusion_bench.errors import ConfigError, UserError
from fusion_bench.training import backend

AXIS = "data"
Tree = TypeVar("Tree")


def use_devices(count: int | Literal["all"]) -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which batches are divided among the first `count` devices of all processes; 1 divides none.

    Raises:
      UserError: there are fewer devices, or JAX does not start.
    """
    devices = backend.start()
    count = len(devices) if count == "all" else count
    if count > len(devices):
        there = "is one device" if len(devices) == 1 else f"are {len(devices)}"
        hint = f"; XLA_FLAGS=--xla_force_host_platform_device_count={count} divides a CPU"
        raise ConfigError("devices", count, f"there {there}{hint if jax.default_backend() == 'cpu' else ''}")
    if count == 1:
        return contextlib.nullcontext()
    return jax.set_mesh(jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=devices[:count]))


def device_count() -> int:
    """Returns the number of devices that a batch is divided among in this context."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.size


def check_divisible(batch_size: int) -> None:
    """Raises UserError unless a batch can be divided evenly."""
    count = device_count()
    if batch_size % count:
        raise UserError(f"a batch of {batch_size} examples cannot be divided evenly among {count} devices")


def replicate(tree: Tree) -> Tree:
    """Puts arrays on every device."""
    return tree if device_count() == 1 else jax.device_put(tree, _everywhere())


def divide(indices: Int[Array, " batch"]) -> Int[Array, " batch"]:
    """Divides a batch's indices among the devices, inside a compiled function, and so the data gathered by them."""
    return indices if device_count() == 1 else lax.with_sharding_constraint(indices, P(AXIS))


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` of a function whose arguments and results are on every device."""
    if device_count() > 1:
        options |= {"in_shardings": _everywhere(), "out_shardings": _everywhere()}
    return jax.jit(function, **options)


def _everywhere() -> NamedSharding:
    return NamedSharding(jax.sharding.get_mesh(), P())  # pyright: ignore[reportArgumentType]
