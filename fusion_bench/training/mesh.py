"""Several devices: each batch is divided among them, all else is on every one.

A mesh is set for a block of code; what is compiled inside divides the examples of every batch along its one axis. XLA
adds the sums over devices. A statistic over a batch stays that of the whole batch, and every draw that of one device,
so that a step differs from one device's only by the order of sums. (Later steps may differ by more: AdamW makes steps
of full size of gradients that are zero but for rounding, such as those of a bias before a normalisation.)

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
      UserError: there are not so many, or JAX does not start.
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
    """Returns how many devices a batch is divided among here."""
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
    """Divides a batch among the devices, inside a compiled function, and with it all that is gathered by it."""
    return indices if device_count() == 1 else lax.with_sharding_constraint(indices, P(AXIS))


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` of a function whose arguments and results are on every device."""
    if device_count() > 1:
        options |= {"in_shardings": _everywhere(), "out_shardings": _everywhere()}
    return jax.jit(function, **options)


def _everywhere() -> NamedSharding:
    return NamedSharding(jax.sharding.get_mesh(), P())  # pyright: ignore[reportArgumentType]
