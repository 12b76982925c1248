"""A study: strategies × seeds on one dataset, each run trained once, measured, and stored."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusion_bench.benchmark import tuning
from fusion_bench.benchmark.claims import Claims, Make
from fusion_bench.benchmark.environment import describe_environment
from fusion_bench.benchmark.events import EventFiles
from fusion_bench.benchmark.matching import match_study
from fusion_bench.benchmark.posthoc import join_members, posthoc_cost
from fusion_bench.benchmark.progress import Display
from fusion_bench.benchmark.records import Job, Records, checkpoint_of, metrics_of, variables_of
from fusion_bench.benchmark.reference import bayes_logits
from fusion_bench.benchmark.resume import RunKeeper
from fusion_bench.benchmark.throughput import inference_rate, latency, train_rate
from fusion_bench.benchmark.tuning import draw
from fusion_bench.config import BenchmarkConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.cache import cache_directory
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import DiskFull, UserError
from fusion_bench.fusion.registry import StrategySpec, left_out, resolve
from fusion_bench.store import Run, Store
from fusion_bench.training.compile_cache import keep_compiled
from fusion_bench.training.loop import Trained, TrainingDiverged, train
from fusion_bench.training.mesh import replicate, use_devices
from fusion_bench.training.program import (
    Program,
    compile_predictor,
    compile_program,
    count_params,
)
from fusion_bench.training.step import split_module

IMAGE_MODEL = "image-only"
"""The strategy whose class probabilities the Bayes reference uses."""


def run_study(config: BenchmarkConfig, display: Display) -> Store:
    """Trains what is not complete in `config.out` and returns the store; a failed run is recorded, not raised.

    Raises:
      UserError: the configuration, the data or the output directory are not as they should be.
    """
    keep_compiled(cache_directory(config.data.cache_dir))
    with use_devices(config.devices):
        if jax.process_count() > 1:
            raise UserError("a study runs in one process; several can only share a training: see README")
        return _run_study(config, display)


def _run_study(config: BenchmarkConfig, display: Display) -> Store:
    store = Store(config.out)
    dataset = load_dataset(config.data)
    if len(dataset.modalities) < 2:
        raise UserError(
            f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two"
        )
    specs = with_members(resolve(config.strategies, dataset.task), dataset)
    without = left_out(config.strategies, dataset.task)
    if without:
        display.note(f"left out, as they join two modalities alone: {', '.join(without)}")
    for spec in specs:
        if spec.options:  # asked for, so what they cannot be is said before anything is trained
            count_params(spec, dataset.task, config.model)
    data = replicate(to_device(dataset))
    specs, matched = match_study(config, specs, dataset, data, display)
    records = Records(config, dataset, describe_environment(), matched)
    events = EventFiles(store, display.note) if config.tensorboard else None
    claims = Claims(store, records, display)
    Study(config, dataset, store, display, records, claims, events).run(specs, data)
    if events is not None:
        events.catch_up()
    return store


def with_members(specs: tuple[StrategySpec, ...], dataset: Dataset) -> tuple[StrategySpec, ...]:
    """Puts post-hoc strategies last, and before them the unimodal runs that they join, asked for or not."""
    posthoc = tuple(spec for spec in specs if spec.registration.is_posthoc)
    trained = tuple(spec for spec in specs if not spec.registration.is_posthoc)
    asked = {spec.label for spec in trained}
    missing = (
        [f"{name}-only" for name in dataset.modalities if f"{name}-only" not in asked] if posthoc else []
    )
    members = resolve(missing, dataset.task) if missing else ()
    return members + trained + posthoc


@dataclasses.dataclass(frozen=True)
class Study:
    """One study in progress: what its runs share."""

    config: BenchmarkConfig
    dataset: Dataset
    store: Store
    display: Display
    records: Records
    claims: Claims
    events: EventFiles | None = None

    def run(self, specs: tuple[StrategySpec, ...], data: DeviceData) -> None:
        """Trains, joins and stores every run that is not complete yet."""
        trained = [spec for spec in specs if not spec.registration.is_posthoc]
        if self.config.tune:
            self._tune(trained, data)
        wanted = [self._jobs(spec) for spec in trained]
        missing = [self.claims.missing(jobs) for jobs in wanted]
        to_train = sum(map(len, missing))
        kept = sum(map(len, wanted)) - to_train
        if kept:
            self.display.kept(kept)
        self.display.begin(to_train, self.config.training.epochs)
        self.claims.make(self._trainings(zip(trained, missing, strict=True), data))
        for spec in specs:
            if spec.registration.is_posthoc:
                self._join(spec, data)
        if any(spec.label == IMAGE_MODEL for spec in specs):
            self._refer()

    def _tune(self, specs: list[StrategySpec], data: DeviceData) -> None:
        """Tries the same settings with every strategy, and chooses the best of each on validation."""
        settings = draw(self.config.tune, self.config.training)
        wanted = [[Job(spec, tuning.SEED, "tuning", setting) for setting in settings] for spec in specs]
        missing = [self.claims.missing(jobs) for jobs in wanted]
        self.display.note(f"tuning: {len(settings)} settings for each of {len(specs)} strategies")
        self.display.begin(sum(map(len, missing)), self.config.training.epochs)
        self.claims.make(self._trainings(zip(specs, missing, strict=True), data))
        for spec, jobs in zip(specs, wanted, strict=True):
            runs = {job.training: self.records.find(self.store, job) for job in jobs}
            accuracies = {
                setting: run.metrics["validation_accuracy"]
                for setting, run in runs.items()
                if run is not None
            }
            if len(accuracies) < len(settings):
                self.display.note(
                    f"tuning {spec.label}: only {len(accuracies)} of {len(settings)} settings are complete"
                )
            if setting := max(accuracies, key=lambda setting: accuracies[setting], default=None):
                self.records.chosen[spec.label] = setting
                self.display.note(
                    f"tuned {spec.label}: learning rate {setting.learning_rate:g}, weight decay "
                    f"{setting.weight_decay:g}; validation {100 * accuracies[setting]:.1f} %"
                )

    def _trainings(
        self, missing: Iterable[tuple[StrategySpec, list[Job]]], data: DeviceData
    ) -> Iterator[tuple[Job, Make]]:
        for spec, jobs in missing:
            make = self._trainer(spec, data)
            yield from ((job, make) for job in jobs)

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

    def _trainer(self, spec: StrategySpec, data: DeviceData) -> Make:
        """Returns what trains a strategy with one seed after another; it is compiled for the first of them."""
        config, splits = self.config, self.dataset.splits
        rates: dict[str, float] = {}

        @functools.lru_cache(maxsize=1)
        def compiled(training: TrainingConfig) -> Program:
            num_train = len(splits["train"])
            return compile_program(spec, self.dataset.task, config.model, training, data, num_train)

        def make(job: Job) -> None:
            self.display.compiling(spec.label)
            try:
                program = compiled(self._training(job))
            except UserError as error:  # it cannot join these data; others can
                self._write(self.records.failed(job, str(error)))
                return
            self._train(job, program, data, rates)

        return make

    def _train(self, job: Job, program: Program, data: DeviceData, rates: dict[str, float]) -> None:
        """Trains with one seed; the first of a strategy measures its rates too."""
        splits = self.dataset.splits
        if job.target == "class":
            data = data._replace(labels=replicate(jnp.asarray(self.dataset.classes)))

        def report(progress):
            self.display.training(job.label, job.seed, progress)
            if self.events is not None:
                self.events.training(self.records.identifier(job), progress.curve)

        unfinished = self.store.unfinished(self.records.identifier(job))
        keeper = RunKeeper(unfinished, self.display, f"{job.label}, seed {job.seed}")
        try:
            trained = train(program, data, splits, job.seed, self._training(job), report, keeper)
        except TrainingDiverged as error:
            unfinished.clear()
            self._write(self.records.failed(job, str(error)))
            return
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            self._write(self.records.failed(job, "the device has too little memory for it"))
            return
        if not rates and job.target != "tuning":
            rates |= train_rate(program, data, splits["train"])
            rates |= inference_rate(
                program.predict, trained.variables, data, splits["test"], program.predict_batch
            )
            rates |= latency(program.graph, trained.variables, data, splits["test"])
        self._store_trained(job, program, trained, data, rates)

    def _training(self, job: Job) -> TrainingConfig:
        """Returns budget and optimiser of a job: those that it tries, that tuning chose, or the study's own."""
        if job.target == "class":  # tuning was for the label
            return self.config.training
        return job.training or self.records.chosen.get(job.label, self.config.training)

    def _store_trained(
        self, job: Job, program: Program, trained: Trained, data: DeviceData, rates: Mapping[str, float]
    ) -> None:
        import pandas as pd

        labels = np.asarray(data.labels)
        predictions = {}
        # What only serves to choose does not see the test set.
        for split in ("validation",) if job.target == "tuning" else ("validation", "test"):
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
        training = self._training(job)
        selected = {
            "epoch": trained.epoch,
            "learning_rate": training.learning_rate,
            "weight_decay": training.weight_decay,
        }
        self._write(
            self.records.complete(job, metrics_of(predictions) | selected, cost),
            curve=pd.DataFrame([dataclasses.asdict(entry) for entry in trained.curve]),
            predictions=predictions,
            checkpoint=checkpoint_of(trained.variables),
        )

    def _join(self, spec: StrategySpec, data: DeviceData) -> None:
        """Joins the unimodal runs of each seed after the fact."""
        cost: dict[str, int | float] = {}
        names = [f"{name}-only" for name in self.dataset.modalities]
        specs = resolve(names, self.dataset.task)

        def make(job: Job) -> None:
            runs = [self.records.find(self.store, Job(member, job.seed)) for member in specs]
            members = {
                name: run for name, run in zip(self.dataset.modalities, runs, strict=True) if run is not None
            }
            if len(members) < len(names):
                self._write(self.records.failed(job, "a unimodal run that it joins has failed"))
                return
            module, predictions = join_members(
                spec, job.seed, members, self.store, self.dataset, self.config.model
            )
            if not cost:
                predictor = compile_predictor(module, data)
                cost.update(posthoc_cost(predictor, members.values()))
                test = self.dataset.splits["test"]
                cost.update(
                    inference_rate(
                        predictor.predict, predictor.variables, data, test, predictor.predict_batch
                    )
                )
                cost.update(latency(*split_module(module), data, test))
            self._write(
                self.records.complete(job, metrics_of(predictions), cost),
                predictions=predictions,
                checkpoint=checkpoint_of(variables_of(module)),
            )

        missing = self.claims.missing([Job(spec, seed) for seed in range(self.config.seeds)])
        self.claims.make((job, make) for job in missing)

    def _refer(self) -> None:
        """Stores the Bayes reference of each seed: the best that can be done with that seed's image model."""
        captions = self.dataset.captions
        if captions is None or captions.channel is None:
            return
        image_spec = StrategySpec(IMAGE_MODEL)

        def make(job: Job) -> None:
            image = self.records.find(
                self.store, Job(image_spec, job.seed, "class" if self._shifts else "label")
            )
            if image is None:
                self._write(self.records.failed(job, "the image model that it uses has failed"))
                return
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

        missing = self.claims.missing([Job(None, seed) for seed in range(self.config.seeds)])
        self.claims.make((job, make) for job in missing)

    def _write(self, run: Run, **contents: Any) -> None:
        captions = self.dataset.captions
        tokenizer = captions.tokenizer.to_str() if captions is not None and run.status == "complete" else None
        try:
            self.store.write(run, tokenizer_json=tokenizer, **contents)
        except DiskFull as error:  # for this run; a smaller one may fit
            run = dataclasses.replace(run, status="failed", metrics={}, cost={}, reason=str(error))
            self._write_failed(run)
        self.display.finished(run)
        if self.events is not None:
            self.events.finished(run)

    def _write_failed(self, run: Run) -> None:
        """Stores that a run failed; where there is no space even for that, it is only remembered."""
        try:
            self.store.write(run)
        except DiskFull:
            self.store.failed.append(run)
