"""Provenance: the facts of data and environment that every run records."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fusion_bench import files
from fusion_bench.config import DataConfig
from fusion_bench.data.batches import normalization_stats
from fusion_bench.data.captions import ceilings
from fusion_bench.data.captions.spec import recorded_name
from fusion_bench.data.damage import moved_modalities
from fusion_bench.data.dataset import Dataset, Modality
from fusion_bench.study.job import READING

DISTRIBUTION = "fusion-bench-jax"
_RECORDED = ("jax", "jaxlib", "flax", "optax", "numpy")


def package_version() -> str:
    """Returns the version of this package."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages that compute; they are part of a run's identity."""
    return {name: importlib.metadata.version(name) for name in _RECORDED}


def describe_environment() -> dict[str, object]:
    """Returns the environment that is stored with every run, as JSON."""
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
        **threads(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def describe_data(dataset: Dataset, config: DataConfig) -> dict[str, Any]:
    """Returns the facts about its data in a run's record, as JSON: see `store.Run.data`."""
    captions = dataset.captions
    facts: dict[str, Any] = {
        "name": files.recorded(dataset.name),
        "description": files.recorded(dataset.description),
        "captions": recorded_name(config.captions),
        "modalities": list(dataset.modalities),
        "notes": list(map(files.recorded, dataset.notes)),
        "reading": json.loads(json.dumps({name: getattr(config, name) for name in READING})),
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "inputs": {
            name: _describe_input(modality, dataset.splits["train"]) for name, modality in dataset.modalities.items()
        },
        **{f"n_{split}": len(indices) for split, indices in dataset.splits.items()},
    }
    if captions is not None and captions.channel is not None:
        names = ("bits", "interaction_bits", "text_only_ceiling", "image_only_ceiling")
        facts |= {"captions_modality": captions.modality, "class_modality": captions.about}
        facts |= {name: getattr(captions.channel, name) for name in names}
    return facts | _describe_damage(dataset, config)


def _describe_damage(dataset: Dataset, config: DataConfig) -> dict[str, Any]:
    """Returns the modalities that were misaligned, and the exact ceilings if captions are of a channel, as JSON."""
    facts: dict[str, Any] = {}
    captions = dataset.captions
    channel = None if captions is None else captions.channel
    if config.misalign:
        facts["misaligned_modalities"] = list(moved_modalities(dataset))
        if channel is not None:
            facts["misaligned_ceilings"] = ceilings.misaligned_ceilings(channel, config.misalign)._asdict()
    if config.missing and captions is not None and {captions.modality, captions.about} == {*dataset.modalities}:
        facts |= {} if channel is None else {"missing_ceiling": ceilings.missing_ceiling(channel, config.missing)}
    return facts


def _describe_input(modality: Modality, train: np.ndarray) -> dict[str, Any]:
    """Returns the specification of a modality, its mean and standard deviation, and whether it has a mask, as JSON."""
    mean, std = normalization_stats(modality, train)
    of, mask, missing = modality.spec, modality.mask, modality.missing
    spec = {**dataclasses.asdict(of), "shape": list(of.shape), "augment": list(of.augment)}
    masked = mask is not None and not (missing is not None and mask[~missing].all())  # without steps, it is no padding
    return {**spec, "mean": mean.tolist(), "std": std.tolist(), "masked": masked}


def _command() -> str:
    """Returns the command of this process as one would give it again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        words = ["python", "-m", called.parent.name]
    elif called.suffix == ".py":
        words = ["python", sys.argv[0]]
    else:
        words = [called.name]
    return files.recorded(shlex.join([*words, *sys.argv[1:]]))


def _commit() -> str:
    """Commit of the checkout that this package lies in, with a "+" where it was changed; empty outside one.

    A package that is installed into another project's checkout has no commit of its own.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, encoding="utf-8", check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        tracked = git("ls-files", "--error-unmatch", str(Path(__file__)))
        commit = git("rev-parse", "--short=10", "HEAD") if tracked else ""
        changed = git("status", "--porcelain", "--", str(here.parent))
    except OSError:  # no git on this machine
        return ""
    return commit + "+" if commit and changed else commit


def _processor() -> str:
    """Model name of the CPU, with the number of cores, of usable cores, and of devices if it is divided."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text("utf-8").splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    usable, all_cores = _usable_cores(), os.cpu_count()
    cores = f"{all_cores} cores" if usable == all_cores else f"{usable} of {all_cores} cores"
    divided = f", divided into {jax.device_count()} devices" if jax.device_count() > 1 else ""
    return f"{name}, {cores}{divided}"


def threads() -> dict[str, int | None]:
    """Returns the number of cores that this process computes on, as it is recorded."""
    return {"cpu_usable": _usable_cores()}


def _usable_cores() -> int | None:
    """Number of cores that XLA may use in this process; `taskset` and $NPROC can limit it."""
    if os.environ.get("NPROC", "").isdecimal():
        return int(os.environ["NPROC"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
