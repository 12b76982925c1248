"""Where a number was made: versions, device, commit, command."""

import datetime
import functools
import hashlib
import importlib.metadata
import inspect
import os
import platform
import shlex
import subprocess
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import jax

from fusion_bench.errors import UserError

DISTRIBUTION = "fusion-bench-jax"
_NO_RESULT = (
    *("errors", "benchmark/claims", "benchmark/events", "benchmark/loaded", "data/preview", "store/merge"),
    "training/compile_cache",
    *("metrics/calibration", "metrics/intervals", "metrics/significance"),
)
"""Files of the package that no run's result depends on, beside the report, the speed and the command line."""
_RECORDED = ("jax", "jaxlib", "flax", "optax", "numpy")


def package_version() -> str:
    """Version of this package; part of what identifies a run."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def code_digest() -> str:
    """Digest of the code that all runs depend on; with `operator_digest`, part of what identifies a run.

    That is the package without what only shows results, and without the operators: a new one leaves the runs of
    the others as they are.
    """
    root = Path(__file__).parents[1]
    face = {
        *(root / "cli").rglob("*.py"),
        root / "benchmark" / "progress.py",
        *(root / "report").rglob("*.py"),
    }
    face |= {*(root / "speed").rglob("*.py"), *(root / f"{name}.py" for name in _NO_RESULT)}
    return _digest(set(root.rglob("*.py")) - face - set((root / "fusion").glob("*/*.py")))


@functools.cache
def operator_digest(operator: type) -> str:
    """Digest of the code of one operator: its file, and every other operator's from which that takes a name.

    Of an operator that another package brings: also the files of that package from which it takes a name or a module.
    Of one that is written in a notebook: its own lines.

    Raises:
      UserError: its code cannot be read.
    """
    if _file_of(operator.__module__) is not None:
        return _digest(_operator_files(operator.__module__))
    functions = [value for value in vars(operator).values() if inspect.isfunction(value)]
    try:
        text = "".join(map(inspect.getsource, functions))
    except OSError:
        raise UserError(f"the code of {operator.__qualname__} cannot be read; put it into a file") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file_of(module: str) -> Path | None:
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path) if path is not None and Path(path).is_file() else None


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for content in sorted(path.read_bytes() for path in paths):  # wherever the packages lie on a machine
        digest.update(content)
    return digest.hexdigest()[:16]


def _operator_files(module: str) -> set[Path]:
    package = module.partition(".")[0]
    found, waiting = {}, {module}
    while waiting:
        name = waiting.pop()
        found[name] = _file_of(name)
        waiting |= {other for other in _taken_from(name) if _holds_operators(other, package)} - set(found)
    return {path for path in found.values() if path is not None}


def _taken_from(module: str) -> set[str]:
    """Names of the modules from which a module takes a class or a function, or which it takes whole."""
    values = vars(sys.modules[module]).values()
    return {
        str(value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", ""))
        for value in values
    }


def _holds_operators(module: str, package: str) -> bool:
    """Returns whether a module is an operator's file, or lies in another package that brings operators."""
    if _file_of(module) is None:  # not imported, or a folder
        return False
    if module.partition(".")[0] == "fusion_bench":
        return module.startswith("fusion_bench.fusion.") and module.count(".") > 2
    return module.partition(".")[0] == package


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages that compute; part of what identifies a run."""
    return {name: importlib.metadata.version(name) for name in _RECORDED}


def describe_environment() -> dict[str, object]:
    """Returns what is stored with every run, as JSON."""
    device = jax.devices()[0]
    return {
        "version": package_version(),
        "commit": _commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "command": _command(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": device.platform,
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "device_count": jax.device_count(),
        "cpu_count": os.cpu_count(),
        "cpu_usable": _usable_cores(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _command() -> str:
    """Returns the command of this process as one would give it again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        words = ["python", "-m", called.parent.name]
    elif called.suffix == ".py":
        words = ["python", sys.argv[0]]
    else:
        words = [called.name]
    return shlex.join([*words, *sys.argv[1:]])


def _commit() -> str:
    """Commit of the checkout that this package lies in, with a "+" where it was changed; empty outside one.

    A package that is installed into another project's checkout has no commit of its own.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        tracked = git("ls-files", "--error-unmatch", str(Path(__file__)))
        commit = git("rev-parse", "--short=10", "HEAD") if tracked else ""
        changed = git("status", "--porcelain", "--", str(here.parent))
    except OSError:  # no git on this machine
        return ""
    return commit + "+" if commit and changed else commit


def _processor() -> str:
    """Model name of the CPU, with the number of cores, where a process may use fewer, and where one is made many."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        name = models[0] if models else name
    usable, all_cores = _usable_cores(), os.cpu_count()
    cores = f"{all_cores} cores" if usable == all_cores else f"{usable} of {all_cores} cores"
    divided = f", divided into {jax.device_count()} devices" if jax.device_count() > 1 else ""
    return f"{name}, {cores}{divided}"


def _usable_cores() -> int | None:
    """Cores that this process may use: fewer than there are under `taskset`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
