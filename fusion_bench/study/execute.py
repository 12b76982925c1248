"""Execution of one job: the only place that trains, measures, joins and refers."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fusion_bench.data.dataset import Split
from fusion_bench.errors import UserError
from fusion_bench.metrics.classification import accuracy, cross_entropy
from fusion_bench.store import Run
from fusion_bench.store.loaded import checkpoint_of
from fusion_bench.study.job import Job
from fusion_bench.study.posthoc import build_posthoc, join_members, joint_cost, measured_cost
from fusion_bench.study.reference import bayes_logits
from fusion_bench.study.resources import Resources
from fusion_bench.training import timing
from fusion_bench.training.compile import Program, compile_predictor
from fusion_bench.training.loop import Trained, TrainingDiverged, train
from fusion_bench.training.step import split_module

if TYPE_CHECKING:
    import pandas

Predictions = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a job, as it is stored.

    Attributes:
      run: the record, complete or failed.
      predictions: test_logits, test_labels, validation_logits and validation_labels.
      curve: a row an epoch.
      checkpoint: the model's variables, a tree of arrays.
    """

    run: Run
    predictions: Predictions | None = None
    curve: "pandas.DataFrame | None" = None
    checkpoint: Any = None


class JobFailed(Exception):
    """Raised when a job has no result, with the reason in one line."""


def execute(job: Job, resources: Resources) -> Result:
    """Does a job; a failure is a result with its reason, so that the others of the study go on.

    Raises:
      UserError: a stored run that the job is made of cannot be read.
    """
    make = {"tune": _train, "train": _train, "measure": _measure, "join": _join, "refer": _refer}[job.kind]
    try:
        return make(job, resources)
    except (JobFailed, TrainingDiverged) as error:
        return Result(resources.record(job, reason=str(error)))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Result(resources.record(job, reason="the device has too little memory for it"))


def _train(job: Job, resources: Resources) -> Result:
    """Trains, selects an epoch on validation, and predicts validation and test once."""
    program = _program(job, resources)
    data, splits = resources.target_data(job), resources.dataset.splits
    checkpoint = resources.checkpoint(job)
    try:
        trained = train(
            program,
            data,
            splits,
            job.seed,
            job.training,
            report=lambda progress: resources.report(job, progress),
            checkpoint=checkpoint,
            pacing=resources.config.checkpoint,
        )
    except TrainingDiverged:
        checkpoint.clear()
        raise
    labels = np.asarray(data.labels)
    # What only serves to choose does not see the test set.
    seen: tuple[Split, ...] = ("validation",) if job.kind == "tune" else ("validation", "test")
    logits: dict[Split, np.ndarray] = {}
    for split in seen:
        logits[split] = program.predictions(trained.variables, data, splits[split])
    predictions = _predictions(logits, {split: labels[splits[split]] for split in seen})
    cost = {
        "params": program.params,
        "train_seconds": trained.train_seconds,
        "train_flops": program.train_flops,
        "inference_flops": program.inference_flops,
    }
    return Result(
        resources.record(job, metrics=metrics_of(predictions) | {"epoch": trained.epoch}, cost=cost),
        predictions,
        curve_of(trained),
        checkpoint_of(trained.variables),
    )


def _measure(job: Job, resources: Resources) -> Result:
    """Times compilation, training, prediction in batches, and the prediction of one example.

    Speed does not depend on the values of the weights: those of the initialisation serve.
    """
    assert job.strategy is not None
    data, splits = resources.data, resources.dataset.splits
    measurement = resources.config.measurement
    if job.strategy.registration.is_posthoc:
        members = _members(job, resources)
        module = build_posthoc(job, resources.dataset.task)
        predictor = compile_predictor(module, data)
        graph, variables = split_module(module)
        cost = measured_cost(predictor, members)
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
    """Joins the unimodal runs of one seed: from their stored logits, to the last digit."""
    members = _members(job, resources)
    module, logits = join_members(job, members, resources.store, resources.dataset)
    predictions = _predictions(logits, _labels(resources))
    return Result(
        resources.record(job, metrics=metrics_of(predictions), cost=joint_cost(members)),
        predictions,
        checkpoint=checkpoint_of(split_module(module)[1]),
    )


def _refer(job: Job, resources: Resources) -> Result:
    """Computes the Bayes reference: the best that can be done with one seed's image model and the exact channel."""
    (model,) = _members(job, resources)
    captions = resources.dataset.captions
    assert captions is not None
    stored = resources.store.predictions(model.id)
    held_out = stored["validation_logits"], stored["validation_labels"]
    logits: dict[Split, np.ndarray] = {}
    for split in ("validation", "test"):
        indices = resources.dataset.splits[split]
        logits[split] = bayes_logits(captions, indices, stored[f"{split}_logits"], *held_out)
    predictions = _predictions(logits, _labels(resources))
    return Result(resources.record(job, metrics=metrics_of(predictions)), predictions)


def _program(job: Job, resources: Resources) -> Program:
    try:
        return resources.program(job)
    except UserError as error:  # it cannot join these data; others can
        raise JobFailed(str(error)) from error


def _members(job: Job, resources: Resources) -> list[Run]:
    """Returns the complete runs that a job is made of."""
    runs = [resources.find(member) for member in job.members]
    missing = [member for member, run in zip(job.members, runs, strict=True) if run is None]
    if missing:
        raise JobFailed(f"a run that it is made of has failed: {missing[0].description}")
    return [run for run in runs if run is not None]


def _labels(resources: Resources) -> dict[Split, np.ndarray]:
    return {split: resources.dataset.labels[indices] for split, indices in resources.dataset.splits.items()}


def _predictions(logits: Mapping[Split, np.ndarray], labels: Mapping[Split, np.ndarray]) -> Predictions:
    """Returns logits and labels of the splits by the names under which they are stored."""
    return {
        name: array
        for split in logits
        for name, array in ((f"{split}_logits", logits[split]), (f"{split}_labels", labels[split]))
    }


def metrics_of(predictions: Predictions) -> dict[str, float]:
    """Returns accuracy and cross-entropy, in nats, of each split that was predicted."""
    found = {}
    for split in ("validation", "test"):
        if f"{split}_logits" in predictions:
            logits, labels = predictions[f"{split}_logits"], predictions[f"{split}_labels"]
            found[f"{split}_accuracy"] = accuracy(logits, labels)
            found[f"{split}_loss"] = cross_entropy(logits, labels)
    return found


def curve_of(trained: Trained) -> "pandas.DataFrame":
    """Returns a learning curve, a row an epoch."""
    import pandas as pd

    return pd.DataFrame([dataclasses.asdict(entry) for entry in trained.curve])
