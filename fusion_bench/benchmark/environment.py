"""Where a number was made: versions, device, commit, command."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import jax

DISTRIBUTION = "fusion-bench-jax"
_RECORDED = ("jax", "jaxlib", "flax", "optax", "numpy")


def package_version() -> str:
    """Version of this package; part of what identifies a run."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe_environment() -> dict[str, object]:
    """Returns what is stored with every run, as JSON."""
    device = jax.devices()[0]
    return {
        "version": package_version(),
        "commit": _commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED},
        "platform": device.platform,
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "device_count": jax.device_count(),
        "cpu_count": os.cpu_count(),
    }


def _commit() -> str:
    """Commit of the checkout that this package lies in, with a "+" where it was changed; empty outside one."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=10", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here))
    except OSError:  # no git on this machine
        return ""
    return commit + "+" if commit and changed else commit


def _processor() -> str:
    """Model name of the CPU, with the number of cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores"
