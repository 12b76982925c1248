"""JAX as this process finds it: started or refused in one line, its memory, and its settings that change results."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from fusion_bench.errors import OutOfMemory, UserError, cause

THREADS = 2  # of a virtual device
_NEEDED = {
    "jax_disable_jit": (False,),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    "jax_transfer_guard": (None, "allow", "log", "log_explicit"),
}
"""Settings of JAX, with the values that a study can run with."""
_USUAL = {
    "jax_allow_f16_reductions": True,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_disable_most_optimizations": False,
    "jax_enable_x64": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_optimization_level": "UNKNOWN",
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}
"""Settings of JAX that change results, with their defaults."""
_VARIABLES = ("LIBTPU_INIT_ARGS", "NPY_DISABLE_CPU_FEATURES", "NVIDIA_TF32_OVERRIDE")
"""Variables of the environment that change results."""
_HARMLESS = re.compile(r"--xla_(force_host_platform_device_count|dump_\w+)(=|$)")
"""Flags of XLA that change no result."""

_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|out.of.memory", re.IGNORECASE)
"""In the errors of XLA: the status, which one that comes while a program runs does not have, or the words."""


def start() -> list[Any]:
    """Starts JAX, if it has not started, and returns its devices.

    Raises:
      UserError: JAX does not start, finds no device, or has a setting that a study cannot run with.
    """
    # The devices of a divided CPU wait for each other in XLA's pool, which has one thread per core. If it is full of
    # waiting devices they wait forever. NPROC enlarges it, if the backend has not started yet.
    found = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if found and int(found[1]) > 1:
        os.environ.setdefault("NPROC", str(THREADS * int(found[1])))
    try:
        import jax
    except ValueError as error:  # a variable of the environment that it cannot read
        raise UserError(f"JAX does not start: {cause(error)}") from error
    for name, right in _NEEDED.items():
        value = _value(name, right[0])
        if value not in right:
            raise UserError(f"JAX's setting {name.upper()} is {value}; a study needs {right[0]}")
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.values.get("jax_platforms")
        where = f"for JAX_PLATFORMS={asked}; leave that out, or install what it needs" if asked else "on this machine"
        raise UserError(f"JAX finds no device {where} ({cause(error)})") from error


@contextlib.contextmanager
def memory_told(what: str) -> Iterator[None]:
    """Turns into one line what JAX, XLA and NumPy raise where a block takes too much memory.

    Raises:
      OutOfMemory: there is too little for `what`.
    """
    import jax

    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"this machine has too little memory for {what}") from error
    except jax.errors.JaxRuntimeError as error:
        if not _NO_MEMORY.search(str(error)):
            raise
        raise OutOfMemory(f"the device has too little memory for {what}") from error


def numerics() -> dict[str, bool | int | float | str | None]:
    """Returns the settings of JAX, XLA and NumPy that change results, if they differ from the defaults."""
    settings = {name: _value(name, usual) for name, usual in _USUAL.items()}
    found = {name: value for name, value in settings.items() if value != _USUAL[name]}
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not _HARMLESS.match(flag)]
    words = {name: os.environ.get(name, "") for name in _VARIABLES} | {"XLA_FLAGS": " ".join(sorted(flags))}
    return found | {name: value for name, value in words.items() if value}


def use_numerics(settings: dict[str, Any]) -> None:
    """Sets what another process has set in JAX; a variable of the environment was read when this one started."""
    import jax

    for name in _USUAL:
        if settings.get(name, _USUAL[name]) != _value(name, _USUAL[name]):
            jax.config.update(name, settings.get(name, _USUAL[name]))


def _value(name: str, usual: Any) -> Any:
    """Returns a setting of JAX as a plain value; the usual one where this version of JAX does not know it."""
    import jax

    value = getattr(jax.config, name, usual)
    return getattr(value, "value", value)
