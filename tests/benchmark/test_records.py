import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from fusion_bench.benchmark import records
from fusion_bench.benchmark.matching import Matched
from fusion_bench.benchmark.records import Job, Records, metrics_of
from fusion_bench.config import BenchmarkConfig, DataConfig, ModelConfig, TrainingConfig
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import run_id
from tests.tasks import make_dataset

BASE = BenchmarkConfig()
DATASET = make_dataset()
JOB = Job(StrategySpec("tensor"), 0)

OTHER = {
    "data": DataConfig("cifar10", Path("d"), "synergy", True, 100, 100, 0.2, 1, Path("c")),
    "model": ModelConfig("small", "transformer", "bfloat16"),
    "training": TrainingConfig(6, 32, "muon", 0.001, "cosine", 2.0, 0.1, 0.0, False, "alternating", "last"),
}
NO_RESULT = {("data", "data_dir"), ("data", "cache_dir")}
FIELDS = [(part, field.name) for part in OTHER for field in dataclasses.fields(getattr(BASE, part))]


def identifier(config=BASE, dataset=DATASET, job=JOB):
    return run_id(Records(config, dataset, {}).identity(job))


@pytest.mark.parametrize(("part", "field"), FIELDS, ids=lambda value: value)
def test_what_changes_the_result_changes_the_run(part, field):
    here, there = getattr(BASE, part), getattr(OTHER[part], field)
    assert getattr(here, field) != there
    changed = dataclasses.replace(BASE, **{part: dataclasses.replace(here, **{field: there})})
    assert (identifier(changed) == identifier()) == ((part, field) in NO_RESULT)


def test_the_rest_of_a_study_does_not():
    rest = {"strategies", "seeds", "match", "match_to", "tune", "devices", "out", "tensorboard"}
    assert {field.name for field in dataclasses.fields(BASE)} == {*OTHER, *rest}
    assert (
        identifier(dataclasses.replace(BASE, out=Path("elsewhere"), seeds=9, strategies=("concat",)))
        == identifier()
    )


def test_a_run_on_several_devices_is_another_one(monkeypatch):
    identifiers = [identifier()]
    for count in (2, 3):
        monkeypatch.setattr(records, "device_count", lambda count=count: count)
        identifiers.append(identifier())
    assert len(set(identifiers)) == 3


def test_a_tuned_run_is_another_one_and_what_is_tried_serves_every_budget():
    assert len({identifier(dataclasses.replace(BASE, tune=tune)) for tune in (0, 2, 3)}) == 3
    tried = Job(JOB.spec, 0, "tuning", OTHER["training"])
    assert len({identifier(dataclasses.replace(BASE, tune=tune), job=tried) for tune in (2, 3)}) == 1
    assert identifier(job=tried) != identifier(job=Job(JOB.spec, 0, "tuning", BASE.training))


def test_a_matched_run_is_another_one():
    matched = [Matched("params", "tensor", 1000.0), Matched("params", "tensor", 2000.0)]
    identities = [Records(BASE, DATASET, {}, match).identity(JOB) for match in (None, *matched)]
    assert len({run_id(identity) for identity in identities}) == 3
    assert "match" not in identities[0]


@pytest.mark.parametrize(
    "job",
    [
        Job(StrategySpec("concat"), 0),
        Job(StrategySpec("tensor", {"width": 3}), 0),
        Job(JOB.spec, 1),
        Job(JOB.spec, 0, "class"),
        Job(None, 0),
    ],
    ids=lambda job: f"{job.label}-{job.seed}-{job.target}",
)
def test_strategy_option_seed_and_target_do(job):
    assert identifier(job=job) != identifier()


def test_the_bytes_of_the_data_do():
    labels = DATASET.labels.copy()
    labels[0] = (labels[0] + 1) % DATASET.num_classes
    assert identifier(dataset=dataclasses.replace(DATASET, labels=labels)) != identifier()
    assert identifier(dataset=dataclasses.replace(DATASET, labels=DATASET.labels.copy())) == identifier()


def test_an_option_at_its_default_is_the_same_run():
    spec = StrategySpec("tensor")
    ((name, value),) = spec.resolved_options.items()
    spelt_out = StrategySpec("tensor", {name: value})
    assert identifier(job=Job(spelt_out, 0)) == identifier()


def test_a_file_is_the_same_by_any_path():
    """What is in it is in the fingerprint."""
    here, there = (
        dataclasses.replace(BASE, data=DataConfig(f"{folder}x.npz", captions=f"{folder}c.csv"))
        for folder in ("", "some/where/")
    )
    assert identifier(here) == identifier(there)


def test_records():
    records = Records(BASE, DATASET, {"commit": "0123456789"})
    good = records.complete(JOB, {"test_accuracy": 0.5}, {"params": 3})
    bad = records.failed(JOB, "the loss is nan")
    assert (good.status, good.metrics, good.cost, good.reason) == (
        "complete",
        {"test_accuracy": 0.5},
        {"params": 3},
        "",
    )
    assert (bad.status, bad.metrics, bad.cost, bad.reason) == ("failed", {}, {}, "the loss is nan")
    assert good.id == bad.id == identifier()
    assert (good.strategy, good.family, good.seed, good.modality) == ("tensor", "tensor", 0, None)
    assert good.data["n_train"] == 130
    assert good.environment == bad.environment == {"commit": "0123456789"}
    assert "bits" not in good.data
    json.dumps(dataclasses.asdict(good), allow_nan=False)


def test_records_of_other_kinds():
    records = Records(BASE, DATASET, {"commit": "0123456789"})
    unimodal, token, token_only = (
        records.complete(Job(StrategySpec(name), 0), {}, {})
        for name in ("text-only", "early-token", "image-token-only")
    )
    assert (unimodal.modality, unimodal.baseline) == ("text", "only")
    assert (token.modality, token.baseline) == (None, "token-only")
    assert token_only.modality == "image"
    reference = records.complete(Job(None, 2), {}, {})
    assert (reference.strategy, reference.family, reference.seed) == ("bayes-reference", "reference", 2)


def test_metrics():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    held_out = {"validation_logits": logits, "validation_labels": np.array([0, 0])}
    test = {"test_logits": logits, "test_labels": np.array([0, 1])}
    found = metrics_of({**held_out, **test})
    assert found == pytest.approx(
        {
            "validation_accuracy": 0.5,
            "validation_loss": -(np.log(0.5) + np.log(0.1)) / 2,
            "test_accuracy": 1.0,
            "test_loss": -(np.log(0.5) + np.log(0.8)) / 2,
        }
    )


def test_what_tuning_chose_is_part_of_what_rests_on_it():
    config = dataclasses.replace(BASE, tune=2)
    found = []
    for rate in (0.001, 0.002):
        setting = dataclasses.replace(BASE.training, learning_rate=rate)
        records = Records(config, DATASET, {}, chosen={"tensor": setting, "image-only": setting})
        found.append({name: records.identifier(job) for name, job in TUNED.items()})
    changed = {name for name in TUNED if found[0][name] != found[1][name]}
    assert changed == {"own", "rests on members"}


def test_what_tuning_chose_for_others_is_not():
    config, posthoc = dataclasses.replace(BASE, tune=2), TUNED["rests on members"]
    alone, beside = ({"image-only": BASE.training, **more} for more in ({}, {"concat": BASE.training}))
    identifiers = {
        Records(config, DATASET, {}, chosen=chosen).identifier(posthoc) for chosen in (alone, beside)
    }
    assert len(identifiers) == 1


TUNED = {
    "own": JOB,
    "rests on members": Job(StrategySpec("late-posthoc"), 0),
    "learns the class": Job(JOB.spec, 0, "class"),
    "tried": Job(JOB.spec, 0, "tuning", OTHER["training"]),
}
