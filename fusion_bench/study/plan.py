"""The plan of a study: stages of jobs in order of execution, as a pure function."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from fusion_bench.config import BenchmarkConfig, Choice, TrainingConfig
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


def plan(
    config: BenchmarkConfig, task: Task, selection: Selection, chosen: Mapping[str, TrainingConfig] | None = None
) -> tuple[Stage, ...]:
    """Returns the stages of a study; an empty one is left out.

    Unimodal baselines are trained without a remedy, so that their runs are the same in every study. `chosen` is the
    configuration that tuning has chosen for each strategy, by label; None stands for that of the study.
    """
    treated = dataclasses.replace(config.training, remedy=remedies.resolve(config.training.remedy))
    untreated = dataclasses.replace(config.training, remedy=Choice("none"))
    make = functools.partial(Job, data=config.data, model=config.model, matched=selection.matched)
    tuned = functools.partial(make, tune=config.tune)
    joined = functools.partial(tuned, training=untreated)
    seeds, reference = range(config.seeds), selection.reference
    tune, train, join, refer = [], [], [], []
    for spec in selection.specs:
        if spec.registration.is_posthoc:
            continue
        usual = treated if spec.registration.modality is None else untreated
        training = (chosen or {}).get(spec.label, usual)
        if config.tune:
            tune += [make("tune", spec, tuning.SEED, training=trial) for trial in tuning.trials(config.tune, usual)]
        train.append(tuned("measure", spec, 0, training=training))
        train += [tuned("train", spec, seed, training=training) for seed in seeds]
        if reference == Reference(spec.label, "class"):  # tuning was for the label
            train += [make("train", spec, seed, training=usual, target="class") for seed in seeds]
    by_result = {(job.kind, job.label, job.target, job.seed): job for job in train}

    def members(kind: Kind, seed: int) -> tuple[Job, ...]:
        return tuple(by_result[kind, f"{name}-only", "label", seed] for name in task.modalities)

    for spec in selection.specs:
        if spec.registration.is_posthoc:
            join.append(joined("measure", spec, 0, members=members("measure", 0)))
            join += [joined("join", spec, seed, members=members("train", seed)) for seed in seeds]
    if reference is not None and ("measure", reference.strategy, "label", 0) in by_result:
        models = [by_result["train", reference.strategy, reference.target, seed] for seed in seeds]
        refer = [joined("refer", None, model.seed, members=(model,)) for model in models]
    stages: tuple[tuple[Kind, list[Job]], ...] = (("tune", tune), ("train", train), ("join", join), ("refer", refer))
    return tuple(Stage(kind, tuple(jobs)) for kind, jobs in stages if jobs)


def with_members(specs: Sequence[StrategySpec], task: Task) -> tuple[StrategySpec, ...]:
    """Puts post-hoc strategies last, and adds the unimodal ones that they need."""
    posthoc = tuple(spec for spec in specs if spec.registration.is_posthoc)
    trained = tuple(spec for spec in specs if not spec.registration.is_posthoc)
    asked = {spec.label for spec in trained}
    members = [StrategySpec(f"{name}-only") for name in task.modalities] if posthoc else []
    return (*(member for member in members if member.label not in asked), *trained, *posthoc)
