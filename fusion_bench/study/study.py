"""A study: its plan is made, and executed stage by stage."""

import contextlib
import dataclasses
from typing import assert_never

from fusion_bench.config import BenchmarkConfig, TrainingConfig
from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import OutOfMemory, UserError
from fusion_bench.fusion.registry import left_out, resolve
from fusion_bench.store import Run, Store
from fusion_bench.study.examples import keep_examples
from fusion_bench.study.executors.local import LocalExecutor
from fusion_bench.study.executors.ray import RayExecutor
from fusion_bench.study.executors.workers import WorkersExecutor, worker_count
from fusion_bench.study.matching import match_study
from fusion_bench.study.plan import Reference, Stage, Subject, plan, with_members
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
    """Does what is not complete in `config.out`; a failed run is recorded, not raised.

    Raises:
      UserError: the configuration, the data or the output directory are not as they should be.
    """
    with open_resources(config) as resources:
        subject = prepare(resources, display)
        events = EventFiles(resources.store, display.note) if config.tensorboard else None
        executor = make_executor(resources, display, events)
        stages = plan(config, resources.dataset.task, subject)
        if config.tune:
            executor.run(stages[0])
            _, *stages = plan(config, resources.dataset.task, subject, choose(stages[0], resources, display))
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
    """Returns the stages of a study, and of each job whether its run is complete; trains nothing.

    What tuning chooses is known once its stage is complete; until then the study's own setting stands in its place.
    """
    with open_resources(config) as resources:
        subject = prepare(resources, display)
        stages = plan(config, resources.dataset.task, subject)
        if config.tune and all(resources.find(job) is not None for job in stages[0].jobs):
            stages = plan(config, resources.dataset.task, subject, choose(stages[0], resources, display))
        return [(stage, [resources.find(job) is not None for job in stage.jobs]) for stage in stages]


def prepare(resources: Resources, display: Display) -> Subject:
    """Resolves the strategies of a study for its data, and matches them if that is asked for.

    Raises:
      UserError: the data have one modality, or a strategy cannot be as it is asked for.
    """
    config, dataset = resources.config, resources.dataset
    for line in dataset.notes:
        display.note(line)
    if len(dataset.modalities) < 2:
        raise UserError(f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two")
    asked = resolve(config.strategies, dataset.task)
    without = left_out(config.strategies, dataset.task)
    if without:
        display.note(f"left out, as they join two modalities alone: {', '.join(without)}")
    remedy = config.training.remedy
    skipped = left_untreated(asked, remedy, dataset.task)
    for label, reason in skipped.items():
        display.note(f"left out, as {remedy.name} does not apply: {label}, {reason}")
    if len(skipped) == len(asked):
        raise UserError(f"{remedy.name} applies to none of the strategies")
    specs = with_members([spec for spec in asked if spec.label not in skipped], dataset.task)
    for spec in specs:
        # asked for, so what they cannot be is said before anything is trained; what is too large its run will say
        if spec.options:
            with contextlib.suppress(OutOfMemory), memory_told(spec.label):
                count_params(spec, dataset.task, config.model)
    specs, matched = match_study(config, specs, dataset, resources.data, display)
    return Subject(specs, matched, reference_of(dataset))


def reference_of(dataset: Dataset) -> Reference | None:
    """Returns what the Bayes reference uses; None without a channel, or where several modalities show the class."""
    captions = dataset.captions
    if captions is None or captions.channel is None or captions.about is None:
        return None
    return Reference(f"{captions.about}-only", "class" if captions.channel.spec.shift > 0 else "label")


def choose(stage: Stage, resources: Resources, display: Display) -> dict[str, TrainingConfig]:
    """Returns the setting of each strategy with the highest validation accuracy, by label; the first wins a tie."""
    accuracies: dict[str, dict[TrainingConfig, float]] = {}
    for job in stage.jobs:
        assert job.strategy is not None
        found = accuracies.setdefault(job.strategy.label, {})
        if (run := resources.find(job)) is not None:
            found[job.training] = run.metrics["validation_accuracy"]
    chosen, count = {}, resources.config.tune
    for label, found in accuracies.items():
        if len(found) < count:
            display.note(f"tuning {label}: only {len(found)} of {count} settings are complete")
        if found:
            best = chosen[label] = max(found, key=lambda setting: found[setting])
            display.note(
                f"tuned {label}: learning rate {best.learning_rate:g}, weight decay {best.weight_decay:g}; "
                f"validation {100 * found[best]:.1f} %"
            )
    return chosen
