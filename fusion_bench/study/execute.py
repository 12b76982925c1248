"""Execution of one job: training, measurement, post-hoc fusion, or the Bayes reference."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fusion_bench.data.dataset import Split
from fusion_bench.errors import OutOfMemory, UserError
from fusion_bench.metrics.classification import accuracy, cross_entropy
from fusion_bench.store import Run
from fusion_bench.store.loaded import checkpoint_of
from fusion_bench.study.job import Job
from fusion_bench.study.posthoc import build_posthoc, join_members, total_cost
from fusion_bench.study.reference import bayes_logits
from fusion_bench.study.remedy import prepare_remedy
from fusion_bench.study.resources import Resources
from fusion_bench.training import timing
from fusion_bench.training.backend import memory_told
from fusion_bench.training.compile import Program, compile_predictor
from fusion_bench.training.loop import TrainingDiverged, train
from fusion_bench.training.step import split_module


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a job, as it is stored.

    Attributes:
      run: the record, complete or failed.
      predictions: test_logits, test_labels, validation_logits and validation_labels.
      curve: one row per epoch.
      checkpoint: the model's variables, a tree of arrays.
    """

    run: Run
    predictions: Mapping[str, np.ndarray] | None = None
    curve: pd.DataFrame | None = None
    checkpoint: Any = None


class JobFailed(Exception):
    """Raised when a job has no result, with the reason in one line."""


def execute(job: Job, resources: Resources) -> Result:
    """Executes a job; a failure is a result with its reason, so that the study continues.

    Raises:
      UserError: a stored run that the job depends on cannot be read.
    """
    make = {"tune": _train, "train": _train, "measure": _measure, "join": _join, "refer": _refer}[job.kind]
    try:
        with memory_told("it"):
            return make(job, resources)
    except (JobFailed, TrainingDiverged, OutOfMemory) as error:
        return Result(resources.record(job, reason=str(error)))


def _train(job: Job, resources: Resources) -> Result:
    """Trains, selects an epoch on validation, and predicts validation and test once."""
    program = _program(job, resources)
    data, splits = resources.target_data(job), resources.dataset.splits
    checkpoint, pacing = resources.checkpoint(job), resources.config.checkpoint
    report = functools.partial(resources.report, job)
    try:
        trained = train(
            program,
            data,
            splits,
            job.seed,
            job.training,
            report=report,
            checkpoint=checkpoint,
            pacing=pacing,
            prepare=functools.partial(prepare_remedy, job, _members(job, resources), program, resources),
        )
    except TrainingDiverged:
        checkpoint.clear()
        raise
    # A tuning trial must not use the test set.
    predicted: tuple[Split, ...] = ("validation",) if job.kind == "tune" else ("validation", "test")
    return _result(
        job,
        resources,
        {split: program.predictions(trained.variables, data, splits[split]) for split in predicted},
        np.asarray(data.labels),
        metrics={"epoch": trained.epoch},
        cost={
            "params": program.params,
            "train_seconds": trained.train_seconds,
            "train_flops": program.train_flops,
            "inference_flops": program.inference_flops,
        },
        curve=pd.DataFrame([dataclasses.asdict(entry) for entry in trained.curve]),
        checkpoint=checkpoint_of(trained.variables),
    )


def _measure(job: Job, resources: Resources) -> Result:
    """Times compilation, training, prediction in batches, and the prediction of one example.

    Speed does not depend on the values of the weights, so they are the initial ones.
    """
    data, splits = resources.data, resources.dataset.splits
    measurement = resources.config.measurement
    if job.registration.is_posthoc:
        members = _members(job, resources)
        module = build_posthoc(job, resources.dataset.task)
        predictor = compile_predictor(module, data)
        graph, variables = split_module(module)
        cost = {  # the members are trained and compiled one after another
            "compile_s": predictor.compile_seconds + total_cost(members, "compile_s"),
            "train_examples_per_s": 1 / sum(1 / run.cost["train_examples_per_s"] for run in members),
            "inference_flops": predictor.inference_flops,
        }
    else:
        predictor = _program(job, resources)
        graph, variables = predictor.graph, predictor.init(np.int32(job.seed)).variables
        cost = {"compile_s": predictor.compile_seconds}
        loop = timing.train_loop(predictor, data, splits["train"], measurement)
        cost |= timing.rates("train", loop)
    test, batch_size = splits["test"], predictor.predict_batch
    loop = timing.inference_loop(predictor.predict, variables, data, test, batch_size, measurement)
    cost |= timing.rates("inference", loop)
    cost |= timing.latency(graph, variables, data, test, measurement)
    return Result(resources.record(job, cost=cost))


def _join(job: Job, resources: Resources) -> Result:
    """Fuses the unimodal runs of one seed from their stored logits."""
    members = _members(job, resources)
    module, logits = join_members(job, members, resources.store, resources.dataset)
    cost = {name: total_cost(members, name) for name in ("params", "train_flops")}
    checkpoint = checkpoint_of(split_module(module)[1])
    return _result(job, resources, logits, resources.dataset.labels, cost=cost, checkpoint=checkpoint)


def _refer(job: Job, resources: Resources) -> Result:
    """Computes the Bayes reference from the stored image model of one seed and the exact caption channel."""
    (model,) = _members(job, resources)
    captions = resources.dataset.captions
    assert captions is not None
    stored = resources.store.predictions(model.id)
    held_out = stored["validation_logits"], stored["validation_labels"]
    logits: dict[Split, np.ndarray] = {}
    for split in ("validation", "test"):
        indices = resources.dataset.splits[split]
        logits[split] = bayes_logits(captions, indices, stored[f"{split}_logits"], *held_out)
    return _result(job, resources, logits, resources.dataset.labels)


def _program(job: Job, resources: Resources) -> Program:
    try:
        return resources.program(job)
    except UserError as error:  # other strategies may be defined for these data
        raise JobFailed(str(error)) from error


def _members(job: Job, resources: Resources) -> list[Run]:
    """Returns the complete runs that a job depends on."""
    runs = [resources.find(member) for member in job.members]
    missing = [member for member, run in zip(job.members, runs, strict=True) if run is None]
    if missing:
        raise JobFailed(f"a run that it depends on has failed: {missing[0].description}")
    return [run for run in runs if run is not None]


def _result(
    job: Job,
    resources: Resources,
    logits: Mapping[Split, np.ndarray],
    labels: np.ndarray,
    *,
    metrics: Mapping[str, int] | None = None,
    cost: Mapping[str, int | float] | None = None,
    curve: pd.DataFrame | None = None,
    checkpoint: Any = None,
) -> Result:
    """Returns a result with predictions, and with accuracy and cross-entropy (in nats) of each predicted split.

    `labels` are those of the whole dataset; `metrics` are further ones.
    """
    predictions, found = {}, {}
    for split, scores in logits.items():
        of_split = labels[resources.dataset.splits[split]]
        predictions |= {f"{split}_logits": scores, f"{split}_labels": of_split}
        found |= {f"{split}_accuracy": accuracy(scores, of_split), f"{split}_loss": cross_entropy(scores, of_split)}
    run = resources.record(job, metrics=found | dict(metrics or {}), cost=cost)
    return Result(run, predictions, curve, checkpoint)
