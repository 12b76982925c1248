"""Several processes on one directory."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fusion_bench.benchmark.claims import Claims
from fusion_bench.benchmark.records import Job, Records
from fusion_bench.config import BenchmarkConfig
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import Store
from tests.studies import Recorder, make_config, run_recorded
from tests.tasks import make_dataset

ROOT = Path(__file__).parents[2]
DATASET = make_dataset()
MEASURED = ["train_examples_per_s", "inference_examples_per_s", "latency_s", "compile_s", "train_seconds"]


class Shared:
    """Runs that are stored at once, and what two processes of one study did with them."""

    def __init__(self, directory):
        self.store = Store(directory)
        self.records = Records(BenchmarkConfig(), DATASET, {"started": "here"})
        self.elsewhere = Records(BenchmarkConfig(), DATASET, {"started": "there"})
        self.display = Recorder()
        self.claims = Claims(self.store, self.records, self.display)
        self.made = []

    def make(self, job):
        self.made.append((job.label, job.seed))
        self.store.write(self.records.complete(job, {"test_accuracy": 0.5}, {}))


@pytest.fixture
def shared(tmp_path):
    return Shared(tmp_path)


def jobs(count=2):
    spec = StrategySpec("concat")
    return [Job(spec, seed) for seed in range(count)]


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


def test_what_another_process_makes_comes_last(shared):
    """It ends without a result, so the run is made here."""
    first, second = shared.claims.missing(jobs())
    other = shared.store.claim(shared.records.identifier(first))

    def make(job):
        shared.make(job)
        if job is second:
            assert shared.display.events == []

    def end(line):
        shared.display.events.append(("note", line))
        other.__exit__(None, None, None)

    assert other.__enter__()
    shared.display.note = end
    shared.claims.make((job, make) for job in (first, second))
    assert shared.made == [("concat", 1), ("concat", 0)]
    assert shared.display.events == [("note", "waiting for another process: concat, seed 0")]
    assert shared.claims.missing(jobs()) == []


@pytest.mark.parametrize("outcome", ["complete", "failed"])
def test_what_another_process_has_made_meanwhile_is_not_made_again(shared, outcome):
    (job,) = shared.claims.missing(jobs(1))
    there = shared.elsewhere
    run = (
        there.complete(job, {"test_accuracy": 0.5}, {}) if outcome == "complete" else there.failed(job, "nan")
    )
    Store(shared.store.directory).write(run)
    shared.claims.make([(job, shared.make)])
    assert shared.made == []
    assert shared.display.events == [("elsewhere", "concat", 0)]
    assert shared.store.failed == ([run] if outcome == "failed" else [])  # it decides the exit status


def test_what_failed_before_the_study_is_tried_again(shared):
    (job,) = jobs(1)
    Store(shared.store.directory).write(shared.elsewhere.failed(job, "nan"))
    shared.claims.make((job, shared.make) for job in shared.claims.missing([job]))
    assert shared.made == [("concat", 0)]


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
    assert sorted(made) == sorted(f"{name}, seed {seed}" for name in strategies for seed in range(seeds)), (
        said
    )

    store = Store(out, read_only=True)
    assert len(store.runs()) == len(strategies) * seeds
    assert store.damaged == {}
    assert {path.name for path in (out / "runs").iterdir() if path.name.startswith(".")} == {".locks"}
    alone = run_recorded(make_config(source, tmp_path / "alone", strategies=("late-posthoc",), seeds=seeds))
    ours, theirs = (
        pd.read_csv(path / "table.csv").drop(columns=MEASURED) for path in (out, alone.config.out)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    again = run_recorded(dataclasses.replace(alone.config, out=out))
    assert again.runs == []
