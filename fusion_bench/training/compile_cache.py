"""Cache of compiled programs on disk, for later studies with the same programs."""

import contextlib
import os
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from fusion_bench import files

MAX_BYTES = 1_000_000_000
"""Largest size of the cache, in bytes; beyond it the least recently used programs are deleted."""
_hits = 0


def keep_compiled(cache: Path) -> None:
    """Caches the programs that are compiled from here on in `cache`/programs, a private directory of the user.

    `JAX_COMPILATION_CACHE_DIR` and `JAX_ENABLE_COMPILATION_CACHE=false` take precedence. Programs for a CPU are valid
    for its kind only, so each kind of CPU has its own folder.
    """
    config = jax.config
    if config.values["jax_compilation_cache_dir"] is not None or not config.values.get("jax_enable_compilation_cache"):
        return
    directory = cache / "programs" / _machine()
    try:  # its owner alone can open it: what is read from it will be run
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and directory.stat().st_uid != os.getuid():
            raise PermissionError(f"{directory} belongs to another user")
        directory.chmod(0o700)
    except OSError as error:
        warnings.warn(f"compiled programs cannot be cached: {error}", stacklevel=2)
        return
    config.update("jax_compilation_cache_dir", str(directory))
    config.update("jax_compilation_cache_max_size", MAX_BYTES)
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Disables the compilation cache inside the context, whatever the user has configured."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    compilation_cache.reset_cache()  # jax decides once whether it uses one
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def hits() -> int:
    """Returns the number of programs that this process has read from the cache."""
    return _hits


def _machine() -> str:
    """Returns a name for this kind of processor, by its instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{files.digest_text(flags)[:8]}"


def _count(event: str, **_: object) -> None:
    global _hits
    _hits += event == "/jax/compilation_cache/cache_hits"


jax.monitoring.register_event_listener(_count)
