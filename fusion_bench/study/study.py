"""A study: its plan, executed stage by stage."""

import contextlib
import dataclasses
from itertools import chain
from typing import assert_never

from fusion_bench.config import BenchmarkConfig, TrainingConfig
from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import ConfigError, OutOfMemory, UserError
from fusion_bench.fusion.registry import left_out, resolve
from fusion_bench.store import Run, Store
from fusion_bench.study.examples import keep_examples
from fusion_bench.study.executors.local import LocalExecutor
from fusion_bench.study.executors.ray import RayExecutor
from fusion_bench.study.executors.workers import WorkersExecutor, worker_count
from fusion_bench.study.matching import match_study
from fusion_bench.study.plan import Reference, Selection, Stage, plan, with_members
from fusion_bench.study.progress import Display
from fusion_bench.study.resources import Resources, open_resources
from fusion_bench.study.tensorboard import EventFiles
from fusion_bench.training.backend import memory_told
from fusion_bench.training.cost import count_params
from fusion_bench.training.remedies.base import left_untreated


@dataclasses.dataclass(frozen=True)
class Study:
    """A study that has ended: its store, and the runs that failed."""

    store: Store
    failed: list[Run]


def run_study(config: BenchmarkConfig, display: Display) -> Study:
    """Executes the jobs without a complete run in `config.out`; a failed run is recorded, not raised.

    Raises:
      UserError: the configuration, the data or the output directory cannot be used.
    """
    with open_resources(config) as resources:
        selection = prepare(resources, display)
        events = EventFiles(resources.store, display.note) if config.tensorboard else None
        executor = make_executor(resources, display, events)
        config = resources.config  # with "auto" resolved
        stages = plan(config, resources.dataset.task, selection)
        if config.tune:
            executor.run(stages[0])
            _, *stages = plan(config, resources.dataset.task, selection, choose(stages[0], resources, display))
        for stage in stages:
            executor.run(stage)
        if events is not None:
            events.catch_up()
        keep_examples(resources.dataset, resources.store)
        return Study(resources.store, executor.failed)


def make_executor(resources: Resources, display: Display, events: EventFiles | None) -> LocalExecutor:
    """Returns the executor that a configuration asks for."""
    match resources.config.cluster.on:
        case "ray":
            return RayExecutor(resources, display, events)
        case "here":
            count = worker_count(resources.config)
            if count == 1:
                return LocalExecutor(resources, display, events)
            return WorkersExecutor(resources, display, count, events)
        case other:
            assert_never(other)


def plan_study(config: BenchmarkConfig, display: Display) -> list[tuple[Stage, list[bool]]]:
    """Returns the stages of a study, and for each job whether its run is complete; trains nothing.

    The result of tuning is known once its stage is complete; until then the study's own configuration replaces it.
    """
    with open_resources(config) as resources:
        selection = prepare(resources, display)
        config = resources.config
        stages = plan(config, resources.dataset.task, selection)
        if config.tune and all(resources.find(job) is not None for job in stages[0].jobs):
            stages = plan(config, resources.dataset.task, selection, choose(stages[0], resources, display))
        return [(stage, [resources.find(job) is not None for job in stage.jobs]) for stage in stages]


def prepare(resources: Resources, display: Display) -> Selection:
    """Returns the strategies of a study for its data, matched if that is configured.

    Raises:
      UserError: the data have one modality, or a strategy cannot be built as configured.
    """
    config, dataset = resources.config, resources.dataset
    for line in dataset.notes:
        display.note(line)
    if config.training.flip == "alternating" and "flip" not in {*chain(*dataset.task.augmented.values())}:
        raise ConfigError("flip", "alternating", "it does nothing where no image is flipped")
    if len(dataset.modalities) < 2:
        raise UserError(f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two")
    asked = resolve(config.strategies, dataset.task)
    for name, reason in left_out(config.strategies, dataset.task).items():
        display.note(f"left out: {name}, {reason}")
    remedy = config.training.remedy
    skipped = left_untreated(asked, remedy, dataset.task)
    for label, reason in skipped.items():
        display.note(f"left out, as {remedy.name} does not apply: {label}, {reason}")
    if len(skipped) == len(asked):
        raise UserError(f"{remedy.name} applies to none of the strategies")
    specs = with_members([spec for spec in asked if spec.label not in skipped], dataset.task)
    for spec in specs:
        if spec.options:  # options of the user: invalid ones raise here, before anything is trained
            with contextlib.suppress(OutOfMemory), memory_told(spec.label):  # its run will say so
                count_params(spec, dataset.task, config.model)
    specs, matched = match_study(config, specs, dataset, resources.data, display)
    return Selection(specs, matched, reference_of(dataset))


def reference_of(dataset: Dataset) -> Reference | None:
    """Returns the model of the Bayes reference; None without a channel, or if several modalities show the class."""
    captions = dataset.captions
    if captions is None or captions.channel is None or captions.about is None:
        return None
    return Reference(f"{captions.about}-only", "class" if captions.channel.spec.shift > 0 else "label")


def choose(stage: Stage, resources: Resources, display: Display) -> dict[str, TrainingConfig]:
    """Returns the trial of each strategy with the highest validation accuracy, by label; the first of equal ones."""
    accuracies: dict[str, dict[TrainingConfig, float]] = {}
    for job in stage.jobs:
        assert job.strategy is not None
        found = accuracies.setdefault(job.strategy.label, {})
        if (run := resources.find(job)) is not None:
            found[job.training] = run.metrics["validation_accuracy"]
    chosen, count = {}, resources.config.tune
    for label, found in accuracies.items():
        if len(found) < count:
            display.note(f"tuning {label}: only {len(found)} of {count} trials are complete")
        if found:
            best = chosen[label] = max(found, key=lambda trial: found[trial])
            display.note(
                f"tuned {label}: learning rate {best.learning_rate:g}, weight decay {best.weight_decay:g}; "
                f"validation {100 * found[best]:.1f} %"
            )
    return chosen
