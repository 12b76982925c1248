"""Programs kept on disk: read again by another process, private, with the same results and an honest compile time."""

import json
import os
import stat
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from fusion_bench.training import compile_cache
from fusion_bench.training.compile_cache import keep_compiled
from tests.studies import TRAINING


def study(source, out, cache):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_COMP", "JAX_PERS"))}
    environment["FUSION_BENCH_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-m", "fusion_bench", "run", "--data", str(source), "--strategies", "late-posthoc"]
    command += ["--seeds", "1", "--out", str(out), *TRAINING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    runs = sorted((out / "runs").glob("*/run.json"))
    costs = {path.parent.name: json.loads(path.read_text())["cost"] for path in runs}
    stored = [path.with_name("predictions.npz") for path in runs]
    arrays = {path.parent.name: dict(np.load(path)) for path in stored if path.exists()}
    return done.stdout, done.stderr, {name: cost.get("compile_s", 0) for name, cost in costs.items()}, arrays


def test_a_second_study_reads_what_the_first_compiled(source, tmp_path):
    cache = tmp_path / "cache"
    first, _, cold, compiled = study(source, tmp_path / "a", cache)
    programs = kept(cache)
    second, errors, warm, read = study(source, tmp_path / "b", cache)
    assert programs
    assert programs == kept(cache)
    assert all(mode(path) == 0o700 for path in (cache / "programs").iterdir())
    trained = [name for name in cold if "-cost-" in name]
    assert len(trained) == 3
    assert all(cold[name] > 0 and warm[name] is None for name in trained)
    assert "the cache of an earlier study" in " ".join(second.split())
    assert "the cache of an earlier study" not in " ".join(first.split())
    assert "runs to train: 2" in errors
    assert "arning" not in errors
    for name, arrays in compiled.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(read[name][key], array)


def kept(cache):
    return sorted((cache / "programs").rglob("*-cache"))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def config(monkeypatch):
    """What a process starts with; puts everything back in the end."""
    names = [
        "jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes",
    ]  # fmt: skip
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_loose_directory_is_made_private(config, tmp_path):
    directory = tmp_path / "programs" / compile_cache._machine()
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    keep_compiled(tmp_path)
    assert config.values["jax_compilation_cache_dir"] == str(directory)
    assert mode(directory) == 0o700


def test_another_users_directory_is_not_used(config, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.warns(UserWarning, match="cannot be cached: .* belongs to another user"):
        keep_compiled(tmp_path)
    assert config.values["jax_compilation_cache_dir"] is None


def test_a_users_choice_stays(config, tmp_path):
    config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    keep_compiled(tmp_path)
    assert config.values["jax_compilation_cache_dir"] == str(tmp_path / "own")
    config.update("jax_compilation_cache_dir", None)
    config.update("jax_enable_compilation_cache", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep_compiled(tmp_path)
    assert config.values["jax_compilation_cache_dir"] is None
    assert not (tmp_path / "programs").exists()
