"""The plan of a study: stages of jobs, in the order in which they can be done. Pure: nothing is read or computed."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from fusion_bench.config import BenchmarkConfig, Choice, TrainingConfig
from fusion_bench.data.dataset import Task
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.study import tuning
from fusion_bench.study.job import Job, Kind, Matched, Target


@dataclasses.dataclass(frozen=True)
class Stage:
    """Jobs that depend on earlier stages alone, those of one strategy together, its measurement first."""

    kind: Kind
    jobs: tuple[Job, ...]


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model that the Bayes reference uses.

    Attributes:
      strategy: its label: the unimodal strategy of the modality that shows the class.
      target: what it must learn: "class" where the label is not the class.
    """

    strategy: str
    target: Target


def plan(
    config: BenchmarkConfig,
    task: Task,
    specs: Sequence[StrategySpec],
    *,
    reference: Reference | None = None,
    matched: Matched | None = None,
    treated: Mapping[str, Choice] | None = None,
    chosen: Mapping[str, TrainingConfig] | None = None,
) -> tuple[Stage, ...]:
    """Returns the stages of a study; an empty one is left out.

    Args:
      config: of the study.
      task: its modalities are those that post-hoc strategies join.
      specs: the strategies, with those that post-hoc ones join: see `with_members`.
      reference: what the Bayes reference uses, if there is one.
      matched: what the strategies are matched to.
      treated: the remedy of each strategy, by label; none by default.
      chosen: the setting that tuning chose for each strategy, by label; before it, that of the study stands there.
    """
    chosen = chosen or {}
    usual = {
        spec.label: dataclasses.replace(config.training, remedy=(treated or {}).get(spec.label, Choice("none")))
        for spec in specs
    }
    make = functools.partial(Job, data=config.data, model=config.model, matched=matched)
    tuned = functools.partial(make, tune=config.tune)
    trained = [spec for spec in specs if not spec.registration.is_posthoc]
    seeds = range(config.seeds)
    tune, train, join, refer = [], [], [], []
    if config.tune:
        tune = [
            make("tune", spec, tuning.SEED, training=setting)
            for spec in trained
            for setting in tuning.settings(config.tune, usual[spec.label])
        ]
    measured: dict[str, Job] = {}
    by_seed: dict[tuple[str, Target, int], Job] = {}
    for spec in trained:
        training = chosen.get(spec.label, usual[spec.label])
        measured[spec.label] = tuned("measure", spec, 0, training=training)
        jobs = [tuned("train", spec, seed, training=training) for seed in seeds]
        if reference is not None and reference == Reference(spec.label, "class"):  # tuning was for the label
            class_training = usual[spec.label]
            jobs += [make("train", spec, seed, training=class_training, target="class") for seed in seeds]
        by_seed |= {(spec.label, job.target, job.seed): job for job in jobs}
        train += [measured[spec.label], *jobs]
    unimodal = [f"{name}-only" for name in task.modalities]
    joined = functools.partial(tuned, training=dataclasses.replace(config.training, remedy=Choice("none")))
    for spec in specs:
        if spec.registration.is_posthoc:
            members = tuple(measured[label] for label in unimodal)
            join.append(joined("measure", spec, 0, members=members))
            for seed in seeds:
                members = tuple(by_seed[label, "label", seed] for label in unimodal)
                join.append(joined("join", spec, seed, members=members))
    if reference is not None and reference.strategy in measured:
        models = [by_seed[reference.strategy, reference.target, seed] for seed in seeds]
        refer = [joined("refer", None, model.seed, members=(model,)) for model in models]
    stages: tuple[tuple[Kind, list[Job]], ...] = (("tune", tune), ("train", train), ("join", join), ("refer", refer))
    return tuple(Stage(kind, tuple(jobs)) for kind, jobs in stages if jobs)


def with_members(specs: Sequence[StrategySpec], task: Task) -> tuple[StrategySpec, ...]:
    """Puts post-hoc strategies last, and before them the unimodal ones that they join, asked for or not."""
    posthoc = tuple(spec for spec in specs if spec.registration.is_posthoc)
    trained = tuple(spec for spec in specs if not spec.registration.is_posthoc)
    asked = {spec.label for spec in trained}
    members = [StrategySpec(f"{name}-only") for name in task.modalities] if posthoc else []
    return (*(member for member in members if member.label not in asked), *trained, *posthoc)
