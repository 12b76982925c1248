"""Remedies that use other runs, in a study from its plan to its stored models."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import cross_entropy
from fusion_bench.store import Store
from fusion_bench.store.loaded import load_run
from fusion_bench.study import remedy as study_remedy
from fusion_bench.study.plan import plan
from fusion_bench.study.remedy import prepare_remedy
from fusion_bench.study.resources import open_resources
from fusion_bench.study.study import prepare
from fusion_bench.training.remedies.base import remedies
from tests.studies import Recorder, make_config, outcomes, run_recorded
from tests.tasks import TWO, make_task

REMEDIES = ("none", "pretrained", "frozen", "umt", "gradient-blending")
TREATED = [f"concat+{name}" for name in REMEDIES[1:]]


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    """A study of one strategy with each of these remedies."""
    config = make_config(source, tmp_path_factory.mktemp("remedies"), strategies=("concat",))
    return run_recorded(dataclasses.replace(config, remedies=REMEDIES))


@pytest.fixture(scope="module")
def opened(done):
    """Resources of the study, and its training jobs by label."""
    with open_resources(done.config) as resources:
        selection = prepare(resources, Recorder())
        stages = plan(done.config, resources.dataset.task, selection)
        yield resources, {job.label: job for stage in stages for job in stage.jobs if job.kind == "train"}


def variables(done, strategy) -> dict[str, Any]:
    """Returns the stored variables of a run by path: encoders by modality, as in a fusion."""
    run = done.stored(strategy)
    state = nnx.to_flat_state(nnx.state(load_run(done.config.out, run.id).model))
    found = {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in state}
    if run.modality is None:
        return found
    return {name.replace("encoder/", f"encoders/{run.modality}/", 1): leaf for name, leaf in found.items()}


def test_members_are_trained_first_and_without_a_remedy(done):
    found = outcomes(done.config.out)
    assert set(found.values()) == {("complete", "")}
    assert {label for label, _ in found} == {"image-only", "text-only", "concat", "bayes-reference", *TREATED}
    members = {run.id: run.strategy for run in done.store.runs()}
    for label in TREATED:
        names = [members[m] for m in done.stored(label).identity["members"]]
        assert names == ["image-only", "text-only", *["concat"] * (label == "concat+gradient-blending")]


def test_the_second_call_trains_nothing(done):
    again = run_recorded(done.config)
    assert not again.compiled
    assert not again.runs


def test_workers_read_the_members_from_the_store(done, tmp_path):
    """Training on another number of cores rounds otherwise."""
    some = ("frozen", "gradient-blending")
    config = dataclasses.replace(done.config, out=tmp_path / "out", workers=2, remedies=("none", *some))
    store, labels = Store(config.out), {f"concat+{name}" for name in some}
    for run in done.store.runs():
        if run.strategy not in TREATED or run.identity["target"] == "cost":
            store.copy(run, done.store)
    assert {run.strategy for run in run_recorded(config).runs} == labels
    for label in labels:
        identifier = done.stored(label).id
        logits, expected = (each.predictions(identifier)["test_logits"] for each in (store, done.store))
        np.testing.assert_allclose(logits, expected, atol=1e-3)


def prepared(opened, label):
    """Returns the strategy and the remedy's module of a training before its first step, and the strategy untreated."""
    resources, jobs = opened
    job = jobs[label]
    program = resources.program(job)
    state = program.init(np.int32(job.seed))
    runs = [resources.find(member) for member in job.members]
    after = prepare_remedy(job, runs, program, resources, state)
    modules = nnx.merge(program.graph, *after.variables), nnx.merge(program.parts_graph, *after.parts)
    return *modules, nnx.merge(program.graph, *program.init(np.int32(job.seed)).variables)


def by_path(module):
    return {"/".join(map(str, p)): np.asarray(leaf[...]) for p, leaf in nnx.to_flat_state(nnx.state(module))}


def test_pretrained_starts_from_the_unimodal_encoders_and_trains_them(done, opened):
    start, _, usual = map(by_path, prepared(opened, "concat+pretrained"))
    trained = variables(done, "concat+pretrained")
    unimodal = variables(done, "image-only") | variables(done, "text-only")
    of_encoders = [name for name in start if name.startswith("encoders/")]
    assert {name.split("/")[1] for name in of_encoders} == {"image", "text"}
    assert any("mean" in name for name in of_encoders)  # running statistics too
    for name in start:
        expected = unimodal[name] if name in of_encoders else usual[name]
        np.testing.assert_array_equal(start[name], expected, err_msg=name)
    assert any((start[name] != usual[name]).any() for name in of_encoders)
    assert all((trained[name] != start[name]).any() for name in of_encoders if "kernel" in name)


def test_frozen_encoders_are_those_of_the_unimodal_runs_to_the_last_bit(done):
    trained, plain = variables(done, "concat+frozen"), variables(done, "concat")
    unimodal = variables(done, "image-only") | variables(done, "text-only")
    for name in trained:
        if name.startswith("encoders/"):
            np.testing.assert_array_equal(trained[name], unimodal[name], err_msg=name)
    assert any((trained[name] != plain[name]).any() for name in trained if name.startswith("head/"))


def test_a_frozen_model_predicts_from_inputs_what_was_stored(done):
    """Its training reads encoded examples, its test the data."""
    run = done.stored("concat+frozen")
    with open_resources(done.config) as resources:
        dataset = resources.dataset
    test = dataset.splits["test"]
    inputs = {name: modality.values[test] for name, modality in dataset.modalities.items()}
    logits = load_run(done.config.out, run.id).predict(inputs)
    np.testing.assert_allclose(logits, done.store.predictions(run.id)["test_logits"], atol=1e-4)


def test_teachers_are_the_unimodal_encoders(done, opened):
    strategy, parts, usual = map(by_path, prepared(opened, "concat+umt"))
    unimodal = variables(done, "image-only") | variables(done, "text-only")
    assert parts
    for name, teacher in parts.items():
        np.testing.assert_array_equal(teacher, unimodal[name], err_msg=name)
    jax.tree.map(np.testing.assert_array_equal, strategy, usual)  # the strategy itself starts as usual


def test_weights_of_gradient_blending_come_from_losses_in_evaluation_over_equally_many_examples(done, opened):
    _, parts, _ = prepared(opened, "concat+gradient-blending")
    resources, _ = opened
    dataset, found = resources.dataset, []
    count = min(len(dataset.splits["train"]), len(dataset.splits["validation"]))
    floor = remedies.make(Choice("gradient-blending")).floor
    for label in ("concat", "image-only", "text-only"):
        run = done.stored(label)
        member = study_remedy._member(run, resources)
        stored = done.store.predictions(run.id)
        expected = cross_entropy(stored["validation_logits"], stored["validation_labels"])
        assert member.loss(member.module, "validation") == pytest.approx(expected, rel=1e-5)
        train = dataset.splits["train"]
        rows = train[np.linspace(0, len(train) - 1, count).astype(int)]
        assert len(rows) == len(set(rows)) == len(stored["validation_labels"])
        loaded = load_run(done.config.out, run.id)
        logits = loaded.predict({name: dataset.modalities[name].values[rows] for name in loaded.modalities})
        assert member.loss(member.module, "train") == pytest.approx(
            cross_entropy(logits, dataset.labels[rows]), rel=1e-4
        )
        (train_0, validation_0), (train_n, validation_n) = (
            [member.loss(module, split) for split in ("train", "validation")]
            for module in (member.untrained, member.module)
        )
        overfitting = max((validation_n - train_n) - (validation_0 - train_0), floor)
        found.append(max(validation_0 - validation_n, 0) / overfitting**2)
    np.testing.assert_allclose(parts.weights[...], np.array(found) / sum(found), rtol=1e-4)


def test_a_member_starts_as_its_run_did(done, opened):
    resources, jobs = opened
    member = study_remedy._member(done.stored("image-only"), resources)
    program = resources.program(jobs["image-only"])
    start = nnx.merge(program.graph, *program.init(np.int32(0)).variables)
    for name, leaf in by_path(start).items():
        np.testing.assert_allclose(by_path(member.untrained)[name], leaf, atol=1e-6)


@pytest.mark.parametrize("name", REMEDIES[1:])
def test_what_they_do_not_apply_to(name):
    remedy = remedies.make(Choice(name))
    for label, reason in (
        ("early-channel", "it has no separate encoder of each modality"),
        ("image-only", "it has one modality"),
        ("late-posthoc", "it trains nothing itself"),
        ("cross-attention", None),
        ("late-mean", None),
    ):
        assert remedy.skip(StrategySpec(label), make_task(*TWO)) == reason
