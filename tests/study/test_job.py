"""Identities: everything that changes a result, and nothing else, makes another run."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fusion_bench
from fusion_bench.config import BenchmarkConfig, Choice, DataConfig, ModelConfig, TrainingConfig
from fusion_bench.fusion import registry
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.study import job as jobs
from fusion_bench.study.job import READING, Job, Matched, Surroundings, identifier, identity
from fusion_bench.training.remedies.base import remedies

BASE = BenchmarkConfig()
HERE = Surroundings("0" * 64, "cpu", {"jax": "1"}, 1)
JOB = Job("train", StrategySpec("tensor"), 0, BASE.data, BASE.model, BASE.training)

OTHER: dict[str, Any] = {
    "data": vars(
        DataConfig(
            "cifar10",
            Path("d"),
            "synergy",
            True,
            100,
            100,
            0.2,
            1,
            Path("c"),
            16,
            "bpe",
            9,
            ("flip",),
            ("a",),
            {"a": "grid"},
            0.2,
            0.3,
            "train",
        )
    ),
    "model": vars(ModelConfig("small", "transformer", "bfloat16")),
    "training": {
        **vars(TrainingConfig(6, 32, "muon", 0.001, "cosine", 2.0, 0.1, 0.0, "alternating", "last")),
        "remedy": Choice("ogm-ge"),
    },
}
NO_RESULT = {("data", name) for name in ("data_dir", "cache_dir", *READING)}
FIELDS = [(part, field.name) for part in OTHER for field in dataclasses.fields(getattr(BASE, part))]


def changed(**fields):
    return identifier(dataclasses.replace(JOB, **fields), HERE)


@pytest.mark.parametrize(("part", "field"), FIELDS, ids=lambda value: value)
def test_every_field_of_the_configuration_that_changes_the_result_is_in_it(part, field):
    here, there = getattr(BASE, part), OTHER[part][field]
    assert getattr(here, field) != there
    assert (changed(**{part: dataclasses.replace(here, **{field: there})}) == changed()) == ((part, field) in NO_RESULT)


def test_the_other_fields_of_a_study_are_none_of_a_job():
    rest = {"strategies", "remedies", "seeds", "match", "match_to", "tune", "devices", "out", "tensorboard"}
    rest |= {"measurement", "checkpoint", "workers", "retries", "cluster"}
    assert {field.name for field in dataclasses.fields(BASE)} == {*OTHER, *rest}


@pytest.mark.parametrize(
    "other",
    [
        {"strategy": StrategySpec("concat")},
        {"strategy": StrategySpec("tensor", {"width": 3})},
        {"strategy": None, "kind": "refer"},
        {"seed": 1},
        {"target": "class"},
        {"kind": "measure"},
        {"kind": "tune"},
        {"tune": 2},
        {"matched": Matched("params", "tensor", 1000.0)},
        {"members": (dataclasses.replace(JOB, seed=1),)},
    ],
    ids=str,
)
def test_another_job_has_another_run(other):
    assert changed(**other) != changed()


@pytest.mark.parametrize(
    "other", [{"fingerprint": "1" * 64}, {"platform": "gpu"}, {"packages": {"jax": "2"}}, {"devices": 2}], ids=str
)
def test_other_surroundings_give_another_run(other):
    assert identifier(JOB, dataclasses.replace(HERE, **other)) != changed()


def test_a_version_that_is_bumped_gives_another_run(monkeypatch):
    before = changed()
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "ENGINE_VERSION", jobs.ENGINE_VERSION + 1)
        assert changed() != before
    newer = dataclasses.replace(registry.REGISTRY.known["tensor"], version=2)
    monkeypatch.setitem(registry.REGISTRY.known, "tensor", newer)
    assert changed() != before
    assert changed(strategy=StrategySpec("concat")) == identifier(
        dataclasses.replace(JOB, strategy=StrategySpec("concat")), HERE
    )


def test_a_remedy_whose_version_is_bumped_gives_another_run(monkeypatch):
    treated = dataclasses.replace(BASE.training, remedy=remedies.resolve(Choice("ogm-ge")))
    before = changed(training=treated)
    newer = dataclasses.replace(remedies.find("ogm-ge"), version=2)
    monkeypatch.setitem(remedies.known, "ogm-ge", newer)
    assert changed(training=treated) != before


def test_settings_of_jax_that_change_results_are_in_it_and_the_usual_ones_are_not():
    rbg, x64 = (dataclasses.replace(HERE, numerics={name: value}) for name, value in (("a", "rbg"), ("b", True)))
    assert len({identifier(JOB, around) for around in (HERE, rbg, x64)}) == 3
    assert "numerics" not in identity(JOB, HERE)
    assert identity(JOB, rbg)["numerics"] == {"a": "rbg"}


def test_a_word_of_a_docstring_or_of_help_voids_no_run(tmp_path):
    package = Path(fusion_bench.__file__).parent
    shutil.copytree(package, tmp_path / "fusion_bench", ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        "from fusion_bench.study.job import *; from fusion_bench.config import BenchmarkConfig as B\n"
        "job = Job('train', StrategySpec('tensor'), 0, B().data, B().model, B().training)\n"
        "print(identifier(job, Surroundings('0', 'cpu', {}, 1)))"
    )

    def identifier_there():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    before = identifier_there()
    for name in ("config.py", "training/step.py", "fusion/registry.py", "fusion/tensor/__init__.py", "study/job.py"):
        path = tmp_path / "fusion_bench" / name
        text = path.read_text()
        assert text.startswith('"""')
        path.write_text(text.replace('"""', '"""Reworded. ', 1) + "# and a comment\n")
    assert identifier_there() == before


def test_runs_on_usual_data_are_those_of_versions_that_knew_no_other():
    stated = identity(JOB, HERE)["data"]
    known = {"source", "captions", "audio", "train_size", "test_size", "validation_fraction", "data_seed", "image_size"}
    assert stated.keys() == known
    damaged = identity(dataclasses.replace(JOB, data=dataclasses.replace(BASE.data, misalign=0.2)), HERE)["data"]
    assert damaged == {**stated, "misalign": 0.2}
    drawn = identity(
        dataclasses.replace(JOB, data=dataclasses.replace(BASE.data, test_size=50, test_from="train")), HERE
    )
    assert drawn["data"] == {**stated, "test_size": 50, "test_from": "train"}


def test_an_option_at_its_default_is_the_same_run():
    spec = StrategySpec("tensor")
    assert changed(strategy=StrategySpec("tensor", spec.resolved_options)) == changed()


def test_a_file_is_the_same_by_any_path():
    """Its content is in the fingerprint."""
    here, there = (DataConfig(f"{folder}x.npz", captions=f"{folder}c.csv") for folder in ("", "some/where/"))
    assert changed(data=here) == changed(data=there)


def test_an_identity_states_what_a_model_was_trained_with():
    tuned = dataclasses.replace(BASE.training, learning_rate=0.25, weight_decay=0.125)
    stated = identity(dataclasses.replace(JOB, training=tuned, tune=4), HERE)
    assert (stated["training"]["learning_rate"], stated["training"]["weight_decay"]) == (0.25, 0.125)
    assert (stated["tune"], stated["engine"], stated["version"]) == (4, jobs.ENGINE_VERSION, 1)
    joined = Job("join", StrategySpec("late-posthoc"), 0, BASE.data, BASE.model, tuned, members=(JOB,), tune=4)
    stated = identity(joined, HERE)
    assert stated["training"]["learning_rate"] is None  # its members have one each
    assert stated["members"] == [changed()]
    json.dumps(stated, allow_nan=False)


def test_a_join_rests_on_the_settings_of_its_members_alone():
    join = Job("join", StrategySpec("late-posthoc"), 0, BASE.data, BASE.model, BASE.training, members=(JOB,), tune=2)
    other = dataclasses.replace(BASE.training, learning_rate=0.25)
    assert identifier(dataclasses.replace(join, training=other), HERE) == identifier(join, HERE)
    members = (dataclasses.replace(JOB, training=other),)
    assert identifier(dataclasses.replace(join, members=members), HERE) != identifier(join, HERE)


def test_a_job_is_plain_data():
    assert pickle.loads(pickle.dumps(JOB)) == JOB
    assert hash(pickle.loads(pickle.dumps(JOB))) == hash(JOB)
    assert Choice("tensor", {"width": 8}) == Choice("tensor", {"width": 8})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "tensor, seed 0"),
        ({"target": "class"}, "tensor, seed 0, learning the class"),
        ({"kind": "measure"}, "tensor, costs"),
        ({"kind": "tune"}, "tensor, learning rate 0.003, weight decay 0.2"),
        ({"kind": "refer", "strategy": None}, "bayes-reference, seed 0"),
    ],
)
def test_a_job_is_described_in_a_few_words(fields, said):
    assert dataclasses.replace(JOB, **fields).description == said


def test_the_run_of_costs_is_named_so():
    assert changed(kind="measure").startswith("tensor-cost-")
    assert changed().startswith("tensor-s0-")
