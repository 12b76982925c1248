"""A study: its plan, executed stage by stage."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import assert_never

from fusion_bench.config import BenchmarkConfig, TrainingConfig, as_choice
from fusion_bench.data.dataset import Dataset, Task
from fusion_bench.errors import ConfigError, OutOfMemory, UserError
from fusion_bench.fusion.registry import StrategySpec, left_out, resolve
from fusion_bench.store import Run, Store
from fusion_bench.study.examples import keep_examples
from fusion_bench.study.executors.local import LocalExecutor
from fusion_bench.study.executors.ray import RayExecutor
from fusion_bench.study.executors.workers import WorkersExecutor, worker_count
from fusion_bench.study.matching import match_study
from fusion_bench.study.plan import Reference, Selection, Stage, Treatment, plan, with_members
from fusion_bench.study.progress import Display
from fusion_bench.study.resources import Resources, open_resources
from fusion_bench.study.tensorboard import EventFiles
from fusion_bench.training.backend import memory_told
from fusion_bench.training.cost import count_params
from fusion_bench.training.remedies.base import left_untreated, remedies


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
            for stage in _of_tuning(stages):
                executor.run(stage)
            stages = plan(config, resources.dataset.task, selection, choose(stages, resources, display))
        for stage in stages:
            if stage.kind != "tune":
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
        if all(resources.find(job) is not None for stage in _of_tuning(stages) for job in stage.jobs):
            stages = plan(config, resources.dataset.task, selection, choose(stages, resources, display))
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
    specs = with_members(_treated(config, asked, dataset.task, display), dataset.task)
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


def _treated(
    config: BenchmarkConfig, asked: Sequence[StrategySpec], task: Task, display: Display
) -> list[StrategySpec]:
    """Returns the strategies to which a remedy applies, and notes where one does not.

    Raises:
      UserError: a remedy applies to none of the strategies.
    """
    untreated = {remedy: left_untreated(asked, remedy, task) for remedy in map(as_choice, config.remedies)}
    for remedy, reasons in untreated.items():
        for label, reason in reasons.items():
            display.note(f"left out, as {remedy.name} does not apply: {label}, {reason}")
        if len(reasons) == len(asked):
            raise UserError(f"{remedy.name} applies to none of the strategies")
    return [spec for spec in asked if any(spec.label not in reasons for reasons in untreated.values())]


def _of_tuning(stages: Iterable[Stage]) -> list[Stage]:
    return [stage for stage in stages if stage.kind == "tune"]


def choose(stages: Iterable[Stage], resources: Resources, display: Display) -> dict[Treatment, TrainingConfig]:
    """Returns the trial of each treatment with the highest validation accuracy; the first of equal ones."""
    count, chosen = resources.config.tune, {}
    jobs = [job for stage in _of_tuning(stages) for job in stage.jobs]
    for start in range(0, len(jobs), count or 1):  # those of one treatment stand together, the usual setting first
        first = jobs[start]
        assert first.strategy is not None
        runs = {job.training: resources.find(job) for job in jobs[start : start + count]}
        found = {trial: run.metrics["validation_accuracy"] for trial, run in runs.items() if run is not None}
        if len(found) < count:
            display.note(f"tuning {first.label}: only {len(found)} of {count} trials are complete")
        if found:
            best = chosen[Treatment(first.strategy, first.training.remedy)] = max(found, key=lambda trial: found[trial])
            options = [f"{n} {best.remedy.options[n]:g}" for n in remedies.find(best.remedy.name).make.tuned]
            values = ", ".join(
                [f"learning rate {best.learning_rate:g}", f"weight decay {best.weight_decay:g}", *options]
            )
            display.note(f"tuned {first.label}: {values}; validation {100 * found[best]:.1f} %")
    return chosen
