"""Studies whose trainings go on side by side, in worker processes."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import fusion_bench
from fusion_bench.data.batches import to_device
from fusion_bench.store import Store
from fusion_bench.study import progress
from fusion_bench.study.executors.worker import read_dataset, write_dataset
from fusion_bench.study.executors.workers import share, worker_count
from tests.studies import ALONE, Recorder, assert_same_runs, make_config, outcomes
from tests.tasks import make_dataset

ROOT = Path(__file__).parents[2]


class Killer(Recorder):
    """Kills the worker that trains, at the first chunk of steps, so many times."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def training(self, strategy, seed, progress):
        if self.times:
            self.times -= 1
            busiest = max(workers(), key=lambda process: sum(process.cpu_times()[:2]))
            busiest.kill()


def workers(process=None):
    """Returns the workers of a process, this one by default."""
    children = (process or psutil.Process()).children(recursive=True)
    return [child for child in children if any("popen_loky" in word for word in child.cmdline())]


def run(config, display, monkeypatch):
    monkeypatch.setattr(progress, "make_display", lambda console: display)
    return fusion_bench.run(config)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be kept to one core here")
def test_workers_give_what_one_process_gives_on_as_many_cores(source, alone, tmp_path, monkeypatch):
    """To the last bit, with a worker that is killed in the middle."""
    display = Killer(times=1)
    config = make_config(source, tmp_path / "out", strategies=ALONE, seeds=2)
    cores = sorted(os.sched_getaffinity(0))[:2]
    run(dataclasses.replace(config, workers=len(cores)), display, monkeypatch)
    notes = [event[1] for event in display.events if event[0] == "note"]
    assert len(notes) == 1
    assert notes[0].startswith("repeated, as its process was ended by SIGKILL")
    assert_same_runs(config.out, alone)
    trained = [run for run in Store(config.out).runs() if run.identity["target"] == "label" and run.modality]
    assert {run.environment["cpu_usable"] for run in trained} == {1}
    assert not workers()


def test_a_training_whose_process_dies_again_and_again_fails(source, tmp_path, monkeypatch):
    config = make_config(source, tmp_path / "out", strategies=("text-only", "image-only"))
    config = dataclasses.replace(config, workers=2, retries=0)
    run(config, Killer(times=1), monkeypatch)
    failures = {name: reason for (name, _), (status, reason) in outcomes(config.out).items() if status == "failed"}
    failures.pop("bayes-reference", None)  # if image-only was killed
    ((name, reason),) = failures.items()
    assert name in ("text-only", "image-only")
    assert reason.startswith("its process was ended by SIGKILL")


def test_an_interrupted_study_ends_its_workers_at_once_and_goes_on(source, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.run_study", str(source), str(out), "concat,text-only", "20", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[1/"):
            break
    theirs = workers(psutil.Process(process.pid))
    assert len(theirs) == 2
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)  # of a loaded machine; the study itself takes longer
    _, left = psutil.wait_procs(theirs, timeout=10)
    assert left == []
    assert process.returncode == -signal.SIGINT
    before = outcomes(out)
    assert len(before) >= 1
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert {status for status, _ in outcomes(out).values()} == {"complete"}
    assert before.items() <= outcomes(out).items()


def test_a_dataset_is_mapped_into_memory_and_not_copied(tmp_path):
    dataset = make_dataset()
    write_dataset(dataset, tmp_path)
    read = read_dataset(tmp_path)
    assert read.fingerprint == dataset.fingerprint
    assert read.class_names == dataset.class_names
    values = read.modalities["image"].values
    on_device: Any = to_device(read).modalities["image"].values
    assert on_device.unsafe_buffer_pointer() == values.ctypes.data
    np.testing.assert_array_equal(on_device, dataset.modalities["image"].values)


SCRIPT = """
import sys
from pathlib import Path
import dataclasses
import fusion_bench
import jax.numpy as jnp
from flax import nnx
from fusion_bench.data.sources import npz
from fusion_bench.data.sources.base import register_source
from fusion_bench.fusion.registry import register
from tests.studies import make_config

@register_source("own", summary="a test")
def load(config):
    return npz.load(dataclasses.replace(config, source=sys.argv[1]))

@register("mine", family="intermediate", reference="a test")
class Mine(nnx.Module):
    def __init__(self, in_features, *, dtype=None, rngs):
        self.out_features = sum(in_features.values())
    def __call__(self, features):
        return jnp.concatenate(list(features.values()), axis=1)

config = make_config(Path("own"), Path(sys.argv[2]), strategies=("mine",), seeds=2)
fusion_bench.run(dataclasses.replace(config, workers=2))
"""


def test_a_strategy_and_a_source_of_a_script_go_to_the_workers(source, tmp_path):
    """The script has no guard against being run again by a process that it starts."""
    path, out = tmp_path / "script.py", tmp_path / "out"
    path.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(path), str(source), str(out)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=100)
    assert {status for status, _ in outcomes(out).values()} == {"complete"}
    commands = {run.environment["command"] for run in Store(out).runs()}
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [
        ([0, 1], 2, [(0,), (1,)]),
        ([0, 1, 2, 3, 4], 2, [(0, 1), (2, 3)]),
        ([4, 6], 3, [(4,), (6,), (4,)]),
        ([3], 1, [(3,)]),
    ],
)
def test_every_worker_has_as_many_cores(cores, workers, expected):
    assert share(cores, workers) == expected


def test_automatic_workers_are_as_many_as_cores_and_memory_allow(source, tmp_path, monkeypatch):
    config = dataclasses.replace(make_config(source, tmp_path), workers="auto")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for gigabytes, expected in ((64, 8), (7, 3), (1, 1)):
        memory = type("Memory", (), {"available": gigabytes * 10**9})
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        assert worker_count(config) == expected
    assert worker_count(dataclasses.replace(config, workers=5)) == 5
    assert worker_count(dataclasses.replace(config, devices=2)) == 1


def test_a_complete_study_starts_no_worker(plain, monkeypatch):
    monkeypatch.setattr("fusion_bench.study.executors.workers.get_context", None)
    display = Recorder()
    run(dataclasses.replace(plain.config, workers=2), display, monkeypatch)
    assert display.runs == []
