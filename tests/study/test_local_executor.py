"""Several processes on one directory, and what becomes of results."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fusion_bench.config import BenchmarkConfig
from fusion_bench.errors import DiskFull
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import Store
from fusion_bench.study.execute import Result
from fusion_bench.study.executors import local
from fusion_bench.study.job import Job
from fusion_bench.study.plan import Stage
from fusion_bench.study.resources import Resources
from tests.studies import Recorder, make_config, run_recorded
from tests.tasks import make_dataset

ROOT = Path(__file__).parents[2]
DATASET = make_dataset()
CONFIG = BenchmarkConfig()
MEASURED = ["train_examples_per_s", "inference_examples_per_s", "latency_s", "compile_s", "train_seconds"]
JOBS = tuple(Job("train", StrategySpec("concat"), s, CONFIG.data, CONFIG.model, CONFIG.training) for s in (0, 1))


class Process:
    """One process of a study whose jobs are done at once."""

    def __init__(self, directory, monkeypatch):
        self.resources = Resources(CONFIG, DATASET, Store(directory))
        self.resources.environment["started"] = str(id(self))
        self.display = Recorder()
        self.executor = local.LocalExecutor(self.resources, self.display)
        self.done = []
        monkeypatch.setattr(local, "execute", self.execute)

    def execute(self, job, resources):
        self.done.append(job.seed)
        return Result(resources.record(job, metrics={"test_accuracy": 0.5}))

    def store(self, job, **outcome):
        run = self.resources.record(job, **outcome)
        self.resources.store.write(run)
        return run

    def run(self, *jobs):
        self.executor.run(Stage("join", jobs))


@pytest.fixture
def process(tmp_path, monkeypatch):
    return Process(tmp_path, monkeypatch)


@pytest.fixture
def other(tmp_path, monkeypatch, process):
    there = Process(tmp_path, monkeypatch)
    monkeypatch.setattr(local, "execute", process.execute)
    return there


def test_a_claim_is_of_one_process_until_it_ends(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    with first.claim("concat-s0-0") as ours:
        assert ours
        with second.claim("concat-s0-0") as theirs:
            assert not theirs
        with second.claim("concat-s1-0") as theirs:
            assert theirs
    with second.claim("concat-s0-0") as theirs:
        assert theirs
    assert first.runs() == []


def test_a_killed_process_claims_nothing(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from fusion_bench.store import Store\n"
        "with Store(Path(sys.argv[1])).claim('concat-s0-0') as ours: os.kill(os.getpid(), 9 * ours)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    with Store(tmp_path).claim("concat-s0-0") as ours:
        assert ours


def test_complete_runs_are_kept_and_failed_ones_tried_again(process):
    process.store(JOBS[0], metrics={"test_accuracy": 0.5})
    process.store(JOBS[1], reason="nan")
    process.run(*JOBS)
    assert process.done == [1]
    assert process.executor.failed == []


def test_a_job_of_another_process_comes_last(process, other):
    """That process ends without a result, so the job is done here."""
    claim = other.resources.store.claim(process.resources.identifier(JOBS[0]))

    def end(line):
        process.display.events.append(("note", line))
        claim.__exit__(None, None, None)

    assert claim.__enter__()
    process.display.note = end
    process.run(*JOBS)
    assert process.done == [1, 0]
    assert process.display.events == [("note", "waiting for another process: concat, seed 0")]


@pytest.mark.parametrize("outcome", [{"metrics": {"test_accuracy": 0.5}}, {"reason": "nan"}], ids=str)
def test_a_job_that_another_process_has_done_meanwhile_is_not_done_again(process, other, outcome):
    stored = []

    def execute_first(job, resources):
        stored.append(other.store(JOBS[1], **outcome))
        return process.execute(job, resources)

    local.execute = execute_first
    process.run(*JOBS)
    assert process.done == [0]
    assert process.display.events == [("elsewhere", "concat", 1)]
    assert process.executor.failed == (stored if "reason" in outcome else [])  # it decides the exit status


@pytest.mark.parametrize("times", [1, 2], ids=["for its files", "even for its record"])
def test_a_full_disk_fails_the_run_and_not_the_study(process, monkeypatch, times):
    write, calls = Store.write, []

    def write_or_fail(store, run, **contents):
        calls.append(run.status)
        if len(calls) <= times:
            raise DiskFull("no space left")
        return write(store, run, **contents)

    monkeypatch.setattr(Store, "write", write_or_fail)
    process.run(*JOBS)
    assert calls == ["complete", "failed", "complete"]
    assert [(run.seed, run.status, run.reason) for run in process.executor.failed] == [(0, "failed", "no space left")]
    assert [(run.seed, run.status) for run in process.display.runs] == [(0, "failed"), (1, "complete")]


def test_two_processes_share_a_study(source, tmp_path):
    out, seeds = tmp_path / "shared", 2
    command = [sys.executable, "-m", "tests.run_study", str(source), str(out), "late-posthoc", str(seeds)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said

    lines = [re.sub(r"^\[.*?\] ", "", line) for text in said for line in text.splitlines()]
    made = [line.partition(": test")[0] for line in lines if ": test " in line and "another" not in line]
    strategies = ("image-only", "text-only", "late-posthoc", "bayes-reference")
    assert sorted(made) == sorted(f"{name}, seed {seed}" for name in strategies for seed in range(seeds)), said

    store = Store(out, read_only=True)
    assert len(store.runs()) == len(strategies) * seeds + 3
    assert store.damaged == {}
    assert {path.name for path in (out / "runs").iterdir() if path.name.startswith(".")} == {".locks"}
    alone = run_recorded(make_config(source, tmp_path / "alone", strategies=("late-posthoc",), seeds=seeds))
    ours, theirs = (pd.read_csv(path / "table.csv").drop(columns=MEASURED) for path in (out, alone.config.out))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    again = run_recorded(dataclasses.replace(alone.config, out=out))
    assert again.runs == []
