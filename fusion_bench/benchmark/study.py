"""A study: strategies × seeds on one dataset, each run trained once, measured, and stored."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusion_bench.benchmark.environment import describe_environment
from fusion_bench.benchmark.events import EventFiles
from fusion_bench.benchmark.matching import Matched, match
from fusion_bench.benchmark.posthoc import join_members, posthoc_cost
from fusion_bench.benchmark.progress import Display
from fusion_bench.benchmark.records import Job, Records, checkpoint_of, metrics_of, variables_of
from fusion_bench.benchmark.reference import bayes_logits
from fusion_bench.benchmark.throughput import inference_rate, train_rate
from fusion_bench.config import BenchmarkConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec, parse_strategies
from fusion_bench.store import Run, Store, run_id
from fusion_bench.training.loop import Trained, TrainingDiverged, train
from fusion_bench.training.program import (
    Program,
    compile_predictor,
    compile_program,
    count_params,
    count_train_flops,
)

IMAGE_MODEL = "image-only"
"""The strategy whose class probabilities the Bayes reference uses."""


def run_study(config: BenchmarkConfig, display: Display) -> Store:
    """Trains what is not complete in `config.out` and returns the store; a failed run is recorded, not raised.

    Raises:
      UserError: the configuration, the data or the output directory are not as they should be.
    """
    check(config)
    store = Store(config.out)
    dataset = load_dataset(config.data)
    if len(dataset.modalities) < 2:
        raise UserError(
            f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two"
        )
    specs = with_members(parse_strategies(config.strategies, dataset.task), dataset)
    for spec in specs:
        if spec.options:  # asked for, so what they cannot be is said before anything is trained
            count_params(spec, dataset.task, config.model)
    data = to_device(dataset)
    specs, matched = match_study(config, specs, dataset, data, display)
    records = Records(config, dataset, describe_environment(), matched)
    events = EventFiles(store) if config.tensorboard else None
    Study(config, dataset, store, display, records, events).run(specs, data)
    if events is not None:
        events.catch_up()
    return store


def check(config: BenchmarkConfig) -> None:
    """Raises UserError if a number in the configuration is out of range."""
    training = config.training
    counts = {"seeds": config.seeds, "epochs": training.epochs, "batch-size": training.batch_size}
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    if not 0 < training.learning_rate < math.inf:
        raise UserError(f"--learning-rate is {training.learning_rate}; it must be finite and above 0")
    if not 0 <= training.weight_decay < math.inf:
        raise UserError(f"--weight-decay is {training.weight_decay}; it must be finite and at least 0")
    if not 0 <= training.label_smoothing < 1:
        raise UserError(f"--label-smoothing is {training.label_smoothing}; it must be at least 0 and below 1")
    if config.data.data_seed < 0:
        raise UserError(f"--data-seed is {config.data.data_seed}; it must be at least 0")


def with_members(specs: tuple[StrategySpec, ...], dataset: Dataset) -> tuple[StrategySpec, ...]:
    """Puts post-hoc strategies last, and before them the unimodal runs that they join, asked for or not."""
    posthoc = tuple(spec for spec in specs if spec.registration.is_posthoc)
    trained = tuple(spec for spec in specs if not spec.registration.is_posthoc)
    asked = {spec.label for spec in trained}
    missing = (
        [f"{name}-only" for name in dataset.modalities if f"{name}-only" not in asked] if posthoc else []
    )
    members = parse_strategies(",".join(missing), dataset.task) if missing else ()
    return members + trained + posthoc


def match_study(
    config: BenchmarkConfig,
    specs: tuple[StrategySpec, ...],
    dataset: Dataset,
    data: DeviceData,
    display: Display,
) -> tuple[tuple[StrategySpec, ...], Matched | None]:
    """Returns the strategies with the widths that `config.match` asks for, and what they are matched to."""
    if config.match == "none":
        if config.match_to != BenchmarkConfig.match_to:
            raise UserError(
                f"--match-to {config.match_to} does nothing without --match params or --match flops"
            )
        return specs, None
    to = parse_strategies(config.match_to, dataset.task)
    if len(to) != 1:
        raise UserError(f"--match-to takes one strategy, got {config.match_to!r}")

    def measure(spec: StrategySpec) -> float:
        if config.match == "params":
            return float(count_params(spec, dataset.task, config.model))
        num_train = len(dataset.splits["train"])
        return count_train_flops(spec, dataset.task, config.model, config.training, data, num_train)

    matched = Matched(config.match, to[0].label, measure(to[0]))

    def announced() -> Iterator[StrategySpec]:
        for spec in specs:
            display.matching(spec.registration.name, config.match, to[0].label)
            yield spec

    return match(announced(), matched, measure), matched


@dataclasses.dataclass(frozen=True)
class Study:
    """One study in progress: what its runs share."""

    config: BenchmarkConfig
    dataset: Dataset
    store: Store
    display: Display
    records: Records
    events: EventFiles | None = None

    def run(self, specs: tuple[StrategySpec, ...], data: DeviceData) -> None:
        """Trains, joins and stores every run that is not complete yet."""
        trained = [spec for spec in specs if not spec.registration.is_posthoc]
        wanted = [self._jobs(spec) for spec in trained]
        missing = [self._missing(jobs) for jobs in wanted]
        to_train = sum(map(len, missing))
        kept = sum(map(len, wanted)) - to_train
        if kept:
            self.display.kept(kept)
        self.display.begin(to_train, self.config.training.epochs)
        for spec, jobs in zip(trained, missing, strict=True):
            if jobs:
                self._train(spec, jobs, data)
        for spec in specs:
            if spec.registration.is_posthoc:
                self._join(spec, data)
        if any(spec.label == IMAGE_MODEL for spec in specs):
            self._refer()

    def _jobs(self, spec: StrategySpec) -> list[Job]:
        """The runs of one strategy; where labels are not classes, the Bayes reference needs models of the class."""
        jobs = [Job(spec, seed) for seed in range(self.config.seeds)]
        if spec.label == IMAGE_MODEL and self._shifts:
            jobs += [Job(spec, seed, "class") for seed in range(self.config.seeds)]
        return jobs

    @property
    def _shifts(self) -> bool:
        captions = self.dataset.captions
        return captions is not None and captions.channel is not None and captions.channel.spec.shift > 0

    def _missing(self, jobs: list[Job]) -> list[Job]:
        return [job for job in jobs if self.records.find(self.store, job) is None]

    def _train(self, spec: StrategySpec, jobs: list[Job], data: DeviceData) -> None:
        """Compiles one strategy and trains it with each seed."""
        config, splits = self.config, self.dataset.splits
        self.display.compiling(spec.label)
        num_train = len(splits["train"])
        try:
            program = compile_program(spec, self.dataset.task, config.model, config.training, data, num_train)
        except UserError as error:  # it cannot join these data; others can
            for job in jobs:
                self._write(self.records.failed(job, str(error)))
            return
        rates: dict[str, float] = {}
        for job in jobs:
            labelled = (
                data if job.target == "label" else data._replace(labels=jnp.asarray(self.dataset.classes))
            )

            def report(progress, job=job):
                self.display.training(spec.label, job.seed, progress)
                if self.events is not None:
                    self.events.training(run_id(self.records.identity(job)), progress.curve)

            try:
                trained = train(program, labelled, splits, job.seed, config.training, report)
            except TrainingDiverged as error:
                self._write(self.records.failed(job, str(error)))
                continue
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                self._write(self.records.failed(job, "the device has too little memory for it"))
                continue
            if not rates:
                rates |= train_rate(program, data, splits["train"])
                rates |= inference_rate(program.predict, trained.variables, data, splits["test"])
            self._store_trained(job, program, trained, labelled, rates)

    def _store_trained(
        self, job: Job, program: Program, trained: Trained, data: DeviceData, rates: Mapping[str, float]
    ) -> None:
        import pandas as pd

        labels = np.asarray(data.labels)
        predictions = {}
        for split in ("validation", "test"):
            indices = self.dataset.splits[split]
            predictions[f"{split}_logits"] = program.predictions(trained.variables, data, indices)
            predictions[f"{split}_labels"] = labels[indices]
        cost = {
            "params": program.params,
            "compile_s": program.compile_seconds,
            "train_seconds": trained.train_seconds,
            "host_fraction": trained.host_seconds / trained.train_seconds,
            "train_flops": program.train_flops,
            "inference_flops": program.inference_flops,
            **rates,
        }
        self._write(
            self.records.complete(job, {**metrics_of(predictions), "epoch": trained.epoch}, cost),
            curve=pd.DataFrame([dataclasses.asdict(entry) for entry in trained.curve]),
            predictions=predictions,
            checkpoint=checkpoint_of(trained.variables),
        )

    def _join(self, spec: StrategySpec, data: DeviceData) -> None:
        """Joins the unimodal runs of each seed after the fact."""
        cost: dict[str, int | float] = {}
        for job in self._missing([Job(spec, seed) for seed in range(self.config.seeds)]):
            names = [f"{name}-only" for name in self.dataset.modalities]
            specs = parse_strategies(",".join(names), self.dataset.task)
            runs = [self.records.find(self.store, Job(member, job.seed)) for member in specs]
            members = {
                name: run for name, run in zip(self.dataset.modalities, runs, strict=True) if run is not None
            }
            if len(members) < len(names):
                self._write(self.records.failed(job, "a unimodal run that it joins has failed"))
                continue
            module, predictions = join_members(
                spec, job.seed, members, self.store, self.dataset, self.config.model
            )
            if not cost:
                predictor = compile_predictor(module, data)
                cost |= posthoc_cost(predictor, members.values())
                cost |= inference_rate(
                    predictor.predict, predictor.variables, data, self.dataset.splits["test"]
                )
            self._write(
                self.records.complete(job, metrics_of(predictions), cost),
                predictions=predictions,
                checkpoint=checkpoint_of(variables_of(module)),
            )

    def _refer(self) -> None:
        """Stores the Bayes reference of each seed: the best that can be done with that seed's image model."""
        captions = self.dataset.captions
        if captions is None or captions.channel is None:
            return
        (image_spec,) = parse_strategies(IMAGE_MODEL, self.dataset.task)
        for job in self._missing([Job(None, seed) for seed in range(self.config.seeds)]):
            image = self.records.find(
                self.store, Job(image_spec, job.seed, "class" if self._shifts else "label")
            )
            if image is None:
                self._write(self.records.failed(job, "the image model that it uses has failed"))
                continue
            stored = self.store.predictions(image.id)
            held_out = stored["validation_logits"], stored["validation_labels"]
            predictions = {}
            for split in ("validation", "test"):
                indices = self.dataset.splits[split]
                predictions[f"{split}_logits"] = bayes_logits(
                    captions, indices, stored[f"{split}_logits"], *held_out
                )
                predictions[f"{split}_labels"] = self.dataset.labels[indices]
            self._write(self.records.complete(job, metrics_of(predictions), {}), predictions=predictions)

    def _write(self, run: Run, **contents: Any) -> None:
        captions = self.dataset.captions
        tokenizer = captions.tokenizer.to_str() if captions is not None and run.status == "complete" else None
        self.store.write(run, tokenizer_json=tokenizer, **contents)
        self.display.finished(run)
        if self.events is not None:
            self.events.finished(run)
