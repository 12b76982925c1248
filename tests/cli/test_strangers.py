"""Surroundings that are not the usual ones: encodings, names of files, the home directory, JAX, plug-ins."""

import dataclasses
import io
import os
import re
import sys

import pandas as pd
import pytest

from fusion_bench import load_run
from fusion_bench.axis import Axis
from fusion_bench.cli import main, streams
from fusion_bench.config import BenchmarkConfig, DataConfig
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import Registration, StrategySpec, find
from fusion_bench.store import Store
from fusion_bench.study.job import Job
from fusion_bench.study.resources import Resources
from fusion_bench.training import backend
from tests.studies import TRAINING, make_config, write_source
from tests.tasks import make_dataset, registered

assert streams  # it registers "look-alike"
NOT_UTF8 = os.fsdecode(b"d\xe4ta")


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("ascii", "-1.5 +/- 2 x 3 >= 4... \\u732b \\udce4"),
        ("latin-1", "-1.5 ± 2 × 3 >= 4... \\u732b \\udce4"),
        ("cp1252", "-1.5 ± 2 × 3 >= 4… \\u732b \\udce4"),
        ("utf-8", "−1.5 ± 2 × 3 ≥ 4… 猫 \\udce4"),
    ],
)
def test_what_an_encoding_lacks_is_replaced(encoding, found):
    assert "−1.5 ± 2 × 3 ≥ 4… 猫 \udce4".encode(encoding, "look-alike").decode(encoding) == found


@pytest.mark.parametrize(("encoding", "stem"), [("ascii", "4x4 stem"), ("cp1252", "4×4 stem")])
def test_a_command_prints_in_any_encoding(monkeypatch, encoding, stem):
    printed = io.BytesIO()
    out = io.TextIOWrapper(printed, encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as exit_:
        main(["list", "tiny"])
    out.flush()
    assert exit_.value.code == 0
    assert stem in printed.getvalue().decode(encoding)


def test_data_may_have_a_name_that_is_not_utf_8(call, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fusion-bench", "run", "--data", f"{NOT_UTF8}.npz"])
    dataset = dataclasses.replace(make_dataset(), name=NOT_UTF8, description=f"{NOT_UTF8}.npz", notes=(NOT_UTF8,))
    config = BenchmarkConfig(DataConfig(f"{NOT_UTF8}.npz", captions=f"{NOT_UTF8}.csv"))
    resources = Resources(config, dataset, Store(tmp_path))
    job = Job("train", StrategySpec("concat"), 0, config.data, config.model, config.training)
    accuracy = {"test_accuracy": 0.5, "validation_accuracy": 0.5}
    resources.store.write(resources.record(job, metrics=accuracy))
    status, printed, _ = call("table", tmp_path, "--format", "csv")
    assert status == 0
    assert set(pd.read_csv(io.StringIO(printed))["dataset"]) == {"d\\udce4ta"}
    (run,) = resources.store.runs()
    assert run.identity["data"]["source"] == "d\\udce4ta.npz"
    assert run.environment["command"] == "fusion-bench run --data 'd\\udce4ta.npz'"


def test_results_go_to_a_directory_whose_name_is_utf_8(refuse, source, tmp_path):
    line = refuse("--data", source, "--out", tmp_path / NOT_UTF8)
    assert line.endswith("its name is not UTF-8; choose another\n")


@pytest.mark.parametrize("out", ["--out=~/here", "--out ~/here"])
def test_the_home_directory_stands_for_its_sign(call, monkeypatch, tmp_path, out):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_source(tmp_path / "tiny.npz")
    status, printed, errors = call("run", "--data", "~/tiny.npz", *out.split(), "--dry-run", *TRAINING)
    assert status == 0, errors
    assert f"complete in {tmp_path}/here" in printed.replace("\n", "")


def test_a_setting_of_jax_that_no_study_can_run_with_is_refused(refuse, monkeypatch, source):
    monkeypatch.setitem(backend._NEEDED, "jax_enable_x64", (True,))
    assert refuse("--data", source) == "fusion-bench: JAX's setting JAX_ENABLE_X64 is False; a study needs True\n"


@pytest.fixture
def left_behind(source, tmp_path, monkeypatch):
    """The store of a run whose strategy a package brought that is not installed any more."""
    monkeypatch.setattr(Axis, "owner", lambda axis, member: "theirs 1.5" if member.name == "their-own" else "")
    config = make_config(source, tmp_path)
    resources = Resources(config, load_dataset(config.data), Store(tmp_path))
    accuracy = {"test_accuracy": 0.5, "validation_accuracy": 0.5}
    theirs = Registration("their-own", "a paper", find("concat").make, family="intermediate", reads="features")
    with registered(theirs):
        job = Job("train", StrategySpec("their-own"), 0, config.data, config.model, config.training)
        resources.store.write(resources.record(job, metrics=accuracy))
    return tmp_path


def test_a_run_whose_plug_in_is_gone_is_in_the_table(call, left_behind):
    status, printed, errors = call("table", left_behind)
    assert (status, errors) == (0, "")
    assert "their-own" in printed
    assert "with theirs 1.5" in " ".join(printed.split())


def test_a_model_whose_plug_in_is_gone_is_named_with_it(call, left_behind, source):
    line = (
        r"their-own-s0-\w+ cannot be loaded: its strategy their-own is not installed here; it was made with theirs 1.5"
    )
    with pytest.raises(UserError, match=f"^{line}$"):
        load_run(left_behind, "their-own")
    status, _, errors = call("diagnose", left_behind, "--data", source)
    assert status == 1
    assert re.search(f"^fusion-bench: {line}$", errors, re.MULTILINE)
