"""The metrics of a result, and failures that are results."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import BenchmarkConfig, Choice
from fusion_bench.data.dataset import Split
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import Registration, StrategySpec
from fusion_bench.store import Store
from fusion_bench.study import execute as execution
from fusion_bench.study import resources as study_resources
from fusion_bench.study.execute import execute
from fusion_bench.study.job import Job
from fusion_bench.study.resources import Resources
from fusion_bench.study.study import prepare
from fusion_bench.training.loop import TrainingDiverged
from tests.studies import Recorder
from tests.tasks import make_dataset, registered


def test_metrics(resources):
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    splits: dict[Split, np.ndarray] = {"validation": np.array([3, 0]), "test": np.array([0, 2])}
    resources.dataset = dataclasses.replace(resources.dataset, splits=splits)
    found = execution._result(JOB, resources, dict.fromkeys(splits, logits), np.array([0, 9, 1, 0])).run.metrics
    assert found == pytest.approx(
        {
            "validation_accuracy": 0.5,
            "validation_loss": -(np.log(0.5) + np.log(0.1)) / 2,
            "test_accuracy": 1.0,
            "test_loss": -(np.log(0.5) + np.log(0.8)) / 2,
        }
    )


CONFIG = BenchmarkConfig()
JOB = Job("train", StrategySpec("concat"), 0, CONFIG.data, CONFIG.model, CONFIG.training)
OUT_OF_MEMORY = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 3 TB")


@pytest.fixture
def resources(tmp_path):
    return Resources(CONFIG, make_dataset(), Store(tmp_path))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingDiverged("the loss is nan"), "the loss is nan"),
        (OUT_OF_MEMORY, "the device has too little memory for it"),
        (
            jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 9 bytes."),
            "the device has too little memory for it",
        ),
        (MemoryError("Unable to allocate 1 EiB"), "this machine has too little memory for it"),
    ],
    ids=str,
)
def test_a_training_that_fails_is_a_result(resources, monkeypatch, error, reason):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(execution, "_program", lambda job, resources: None)
    monkeypatch.setattr(execution, "train", fail)
    run = execute(JOB, resources).run
    assert (run.status, run.reason, run.metrics) == ("failed", reason, {})


class TooLarge(nnx.Module):
    """Concatenates features, and needs too much memory where its option says so."""

    def __init__(self, in_features, *, where: str = "nowhere", width: int = 8, dtype=None, rngs):
        self.out_features, self.where = sum(in_features.values()), where
        if where == "constructor":
            np.zeros(1 << 60, np.int8)

    def __call__(self, features):
        if self.where == "call":
            raise OUT_OF_MEMORY
        return jnp.concatenate(list(features.values()), axis=-1)


TOO_LARGE = Registration("too-large", "none", TooLarge, family="intermediate", reads="features", size="width")


@pytest.mark.parametrize(
    ("where", "reason"),
    [("constructor", "this machine has too little memory for it"), ("call", "the device has too little memory for it")],
)
@pytest.mark.parametrize("kind", ["measure", "train"])
def test_a_strategy_that_takes_too_much_memory_fails_its_run(resources, where, reason, kind):
    with registered(TOO_LARGE):
        job = dataclasses.replace(JOB, kind=kind, strategy=StrategySpec("too-large", {"where": where}))
        run = execute(job, resources).run
    assert (run.status, run.reason) == ("failed", reason)


@pytest.mark.parametrize(("where", "match"), [("constructor", "none"), ("constructor", "params"), ("call", "flops")])
def test_what_takes_too_much_memory_does_not_keep_a_study_from_its_start(resources, where, match):
    asked = Choice("too-large", {"where": where})
    model = dataclasses.replace(CONFIG.model, encoder="micro")
    to = {} if match == "none" else {"match_to": "image-only"}
    resources.config = dataclasses.replace(CONFIG, model=model, strategies=(asked,), match=match, **to)
    with registered(TOO_LARGE):
        assert [spec.name for spec in prepare(resources, Recorder()).specs] == ["too-large"]


def test_what_takes_too_much_memory_cannot_be_matched_to(resources):
    resources.config = dataclasses.replace(CONFIG, match="flops", match_to=Choice("too-large", {"where": "call"}))
    with registered(TOO_LARGE), pytest.raises(UserError, match=r"^the device has too little memory for too-l"):
        prepare(resources, Recorder())


def test_data_that_take_too_much_memory_are_named(tmp_path, monkeypatch):
    def fail(dataset):
        raise OUT_OF_MEMORY

    monkeypatch.setattr(study_resources, "to_device", fail)
    with pytest.raises(UserError, match=r"^the device has too little memory for the data, tiny$"):
        Resources(CONFIG, make_dataset(), Store(tmp_path))


def test_other_errors_of_the_runtime_end_the_study(resources, monkeypatch):
    def fail(job):
        raise jax.errors.JaxRuntimeError("INTERNAL: a fault")

    monkeypatch.setattr(resources, "program", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a fault"):
        execute(JOB, resources)


def test_a_join_whose_member_has_failed_has_failed(resources):
    join = Job("join", StrategySpec("late-posthoc"), 0, CONFIG.data, CONFIG.model, CONFIG.training, members=(JOB,))
    run = execute(join, resources).run
    assert (run.status, run.reason) == ("failed", "a run that it depends on has failed: concat, seed 0")


def test_a_record_states_its_job(resources):
    run = resources.record(JOB, metrics={"test_accuracy": 0.5}, cost={"params": 3})
    assert (run.status, run.strategy, run.family, run.seed) == ("complete", "concat", "intermediate", 0)
    assert run.data["n_train"] == 130
    assert "bits" not in run.data
    assert (run.modality, run.baseline) == (None, "only")
    reference = resources.record(Job("refer", None, 2, CONFIG.data, CONFIG.model, CONFIG.training))
    assert (reference.strategy, reference.family, reference.seed) == ("bayes-reference", "reference", 2)
    token = resources.record(Job("train", StrategySpec("early-token"), 0, CONFIG.data, CONFIG.model, CONFIG.training))
    assert (token.modality, token.baseline) == (None, "token-only")
