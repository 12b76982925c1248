"""The plan of a study: stages of jobs in order of execution, as a pure function."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

from fusion_bench.config import BenchmarkConfig, Choice, TrainingConfig, as_choice
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.study import tuning
from fusion_bench.study.job import Job, Kind, Matched, Target
from fusion_bench.training.remedies.base import remedies


@dataclasses.dataclass(frozen=True)
class Stage:
    """Jobs that depend only on earlier stages; those of one strategy stand together, its measurement first."""

    kind: Kind
    jobs: tuple[Job, ...]


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model that the Bayes reference uses.

    Attributes:
      strategy: its label, that of the unimodal strategy of the modality that shows the class.
      target: what it learns: "class" if that differs from the label.
    """

    strategy: str
    target: Target


@dataclasses.dataclass(frozen=True)
class Selection:
    """The strategies of a study.

    Attributes:
      specs: the strategies, with those that post-hoc ones need: see `with_members`.
      matched: the cost that they are matched to, if they are.
      reference: the model of the Bayes reference, if there is one.
    """

    specs: tuple[StrategySpec, ...]
    matched: Matched | None = None
    reference: Reference | None = None


@dataclasses.dataclass(frozen=True)
class Treatment:
    """A trained strategy with a remedy, or with "none"."""

    spec: StrategySpec
    remedy: Choice

    @property
    def is_plain(self) -> bool:
        return self.remedy.name == "none"


def treatments(config: BenchmarkConfig, task: Task, specs: Iterable[StrategySpec]) -> tuple[Treatment, ...]:
    """Returns each trained strategy with each remedy that applies to it; first those without that others need.

    Unimodal baselines are trained without a remedy, so that their runs are the same in every study.
    """
    plain, found = remedies.resolve(Choice("none")), dict[Treatment, None]()
    for spec in specs:
        if spec.registration.is_posthoc:
            continue
        if spec.registration.modality is not None:
            found[Treatment(spec, plain)] = None
            continue
        for choice in map(remedies.resolve, map(as_choice, config.remedies)):
            if remedies.make(choice).skip(spec, task) is None:
                found[Treatment(spec, choice)] = None
    needed = {Treatment(member, plain): None for each in found for member in _member_specs(each, task)}
    return tuple(needed | found)


def _member_specs(treatment: Treatment, task: Task) -> tuple[StrategySpec, ...]:
    return remedies.make(treatment.remedy).members(treatment.spec, task)


def trials(config: BenchmarkConfig, treatment: Treatment) -> tuple[TrainingConfig, ...]:
    """Returns the configurations that tuning tries; without tuning, the one that is trained."""
    training = dataclasses.replace(config.training, remedy=treatment.remedy)
    return tuning.trials(config.tune, training) if config.tune else (training,)


def plan(
    config: BenchmarkConfig, task: Task, selection: Selection, chosen: Mapping[Treatment, TrainingConfig] | None = None
) -> tuple[Stage, ...]:
    """Returns the stages of a study; an empty one is left out.

    Trainings that use the runs of others are in a later stage. `chosen` is the configuration that tuning has chosen for
    each treatment; without it the first trial stands for it.
    """
    make = functools.partial(Job, data=config.data, model=config.model, matched=selection.matched)
    tuned = functools.partial(make, tune=config.tune)
    untreated = dataclasses.replace(config.training, remedy=remedies.resolve(Choice("none")))
    joined = functools.partial(tuned, training=untreated)
    seeds, reference = range(config.seeds), selection.reference
    tune: tuple[list[Job], list[Job]] = [], []
    train: tuple[list[Job], list[Job]] = [], []
    join, refer = [], []
    by_result: dict[tuple[Kind, str, Target, int], Job] = {}

    def add(jobs: tuple[list[Job], list[Job]], *new: Job) -> None:
        for job in new:
            jobs[bool(job.members)].append(job)
            by_result.setdefault((job.kind, job.label, job.target, job.seed), job)

    for treatment in treatments(config, task, selection.specs):
        spec, needed = treatment.spec, _member_specs(treatment, task)

        def members(kind: Kind, seed: int, specs: Sequence[StrategySpec] = needed) -> tuple[Job, ...]:
            return tuple(by_result[kind, spec.label, "label", seed] for spec in specs)

        tried = trials(config, treatment)
        training = (chosen or {}).get(treatment, tried[0])
        if config.tune:
            of_trials = members("tune", tuning.SEED)
            add(tune, *(make("tune", spec, tuning.SEED, training=trial, members=of_trials) for trial in tried))
        first = len(train[bool(needed)])
        add(train, *(tuned("train", spec, seed, training=training, members=members("train", seed)) for seed in seeds))
        measured = tuned("measure", spec, 0, training=training)
        train[bool(needed)].insert(first, measured)
        by_result["measure", measured.label, "label", 0] = measured
        if reference == Reference(spec.label, "class"):  # tuning was for the label
            add(train, *(make("train", spec, seed, training=tried[0], target="class") for seed in seeds))

    def alone(kind: Kind, seed: int) -> tuple[Job, ...]:
        return tuple(by_result[kind, f"{name}-only", "label", seed] for name in task.modalities)

    for spec in selection.specs:
        if spec.registration.is_posthoc:
            join.append(joined("measure", spec, 0, members=alone("measure", 0)))
            join += [joined("join", spec, seed, members=alone("train", seed)) for seed in seeds]
    if reference is not None and ("measure", reference.strategy, "label", 0) in by_result:
        models = [by_result["train", reference.strategy, reference.target, seed] for seed in seeds]
        refer = [joined("refer", None, model.seed, members=(model,)) for model in models]
    stages: tuple[tuple[Kind, list[Job]], ...] = (
        *(("tune", jobs) for jobs in tune),
        *(("train", jobs) for jobs in train),
        ("join", join),
        ("refer", refer),
    )
    return tuple(Stage(kind, tuple(jobs)) for kind, jobs in stages if jobs)


def with_members(specs: Sequence[StrategySpec], task: Task) -> tuple[StrategySpec, ...]:
    """Puts post-hoc strategies last, and adds the unimodal ones that they need."""
    posthoc = tuple(spec for spec in specs if spec.registration.is_posthoc)
    trained = tuple(spec for spec in specs if not spec.registration.is_posthoc)
    asked = {spec.label for spec in trained}
    members = [StrategySpec(f"{name}-only") for name in task.modalities] if posthoc else []
    return (*(member for member in members if member.label not in asked), *trained, *posthoc)
