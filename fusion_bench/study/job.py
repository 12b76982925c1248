"""One job of a study as plain values, and the identity of its result."""

import dataclasses
from typing import Any, Literal

from fusion_bench.config import DataConfig, Match, ModelConfig, TrainingConfig
from fusion_bench.data.captions.spec import recorded_name
from fusion_bench.data.sources import base as sources
from fusion_bench.fusion.registry import REGISTRY, Registration, StrategySpec
from fusion_bench.store import run_id
from fusion_bench.training import ENGINE_VERSION
from fusion_bench.training.remedies.base import remedies

READING = ("tokenizer", "max_tokens", "augment", "modalities", "kinds")
"""Fields of `DataConfig` whose effect is in the data's fingerprint; a run records them to load the data again."""
UNUSUAL = ("misalign", "missing", "test_from")
"""Fields of `DataConfig` that are part of an identity only where they are not the default."""
REFERENCE = Registration("bayes-reference", "an image model and the exact channel", None, family="reference")
"""Stands for the strategy of the Bayes reference, which has none."""
Kind = Literal["tune", "train", "measure", "join", "refer"]
Target = Literal["label", "class"]


@dataclasses.dataclass(frozen=True)
class Matched:
    """The cost that all strategies of a study are matched to.

    Attributes:
      quantity: "params", the number of trained parameters, or "flops", floating-point operations per training example.
      to: label of the strategy that is matched.
      target: its cost.
    """

    quantity: Match
    to: str
    target: float


@dataclasses.dataclass(frozen=True)
class Job:
    """One unit of work, as a value that can be listed, compared, pickled and sent to another process.

    Attributes:
      kind: "tune" is a tuning trial on validation; "train" trains, with some remedies from other runs; "measure" times
        a strategy; "join" fuses unimodal runs post hoc; "refer" computes the Bayes reference.
      strategy: None for the Bayes reference.
      seed: decides initialisation, batch order and augmentation.
      data: the dataset.
      model: sizes of the encoders.
      training: the budget and optimiser that the model is trained with, after tuning.
      target: what is learned: the label, or the class, which differs where the caption channel shifts.
      members: the jobs whose results this one uses.
      tune: number of tuning trials for each strategy.
      matched: the cost that the strategy is matched to, if it is.
    """

    kind: Kind
    strategy: StrategySpec | None
    seed: int
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    target: Target = "label"
    members: tuple["Job", ...] = ()
    tune: int = 0
    matched: Matched | None = None

    @property
    def registration(self) -> Registration:
        return REFERENCE if self.strategy is None else self.strategy.registration

    @property
    def label(self) -> str:
        """The name of its row in a table: "tensor:width=8", or "tensor:width=8+ogm-ge" with a remedy.

        Options of the remedy that were tuned are left out, like a tuned learning rate.
        """
        if self.strategy is None:
            return REFERENCE.name
        remedy = self.training.remedy
        if remedy.name == "none" or self.registration.is_posthoc:
            return self.strategy.label
        registered = remedies.find(remedy.name)
        hidden = registered.make.tuned if self.tune or self.kind == "tune" else ()
        options = {name: value for name, value in remedy.options.items() if name not in hidden}
        return f"{self.strategy.label}+{registered.label(options)}"

    @property
    def description(self) -> str:
        """Strategy, seed and purpose, in a few words."""
        if self.kind == "measure":
            return f"{self.label}, costs"
        if self.kind == "tune":
            rate, decay = self.training.learning_rate, self.training.weight_decay
            return f"{self.label}, learning rate {rate:g}, weight decay {decay:g}"
        return f"{self.label}, seed {self.seed}{', learning the class' if self.target == 'class' else ''}"


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Everything outside its configuration that a result depends on.

    Attributes:
      fingerprint: of the dataset.
      platform: "cpu", "gpu" or "tpu".
      packages: versions of the packages that compute.
      devices: number of devices that a batch is divided among.
      numerics: settings of JAX and XLA that change results, where they are not the usual ones: see `backend.numerics`.
    """

    fingerprint: str
    platform: str
    packages: dict[str, str]
    devices: int
    numerics: dict[str, Any] = dataclasses.field(default_factory=dict)


def identity(job: Job, surroundings: Surroundings) -> dict[str, Any]:
    """Returns everything that can change the job's result, as JSON: see `store.Run.identity`."""
    data = dataclasses.asdict(job.data)
    for name in ("data_dir", "cache_dir", *READING):  # The fingerprint says what was read, and from any file.
        del data[name]
    for name in UNUSUAL:
        if data[name] == getattr(DataConfig(), name):
            del data[name]
    data["source"] = sources.recorded_name(job.data.source)
    data["captions"] = recorded_name(job.data.captions)
    training = dataclasses.asdict(job.training)
    training["remedy"]["version"] = remedies.find(job.training.remedy.name).version
    if job.tune and job.members and job.kind not in ("tune", "train"):  # each of them was trained with its own
        training |= {"learning_rate": None, "weight_decay": None}
    around = dataclasses.asdict(surroundings)
    if not surroundings.numerics:
        del around["numerics"]
    return {
        "strategy": job.label,
        "name": job.registration.name,
        "options": {} if job.strategy is None else job.strategy.resolved_options,
        "version": job.registration.version,
        "engine": ENGINE_VERSION,
        "seed": job.seed,
        "target": {"tune": "tuning", "measure": "cost"}.get(job.kind, job.target),
        "data": data,
        "model": dataclasses.asdict(job.model),
        "training": training,
        **around,
        **({} if job.matched is None else {"match": dataclasses.asdict(job.matched)}),
        **({"tune": job.tune} if job.tune else {}),
        **({"members": [identifier(member, surroundings) for member in job.members]} if job.members else {}),
    }


def plugins(job: Job) -> str:
    """Returns the packages that bring its strategy, remedy and source by entry points, with their versions."""
    remedy = remedies.find(job.training.remedy.name)
    owners = {REGISTRY.owner(job.registration), remedies.owner(remedy), sources.owner(job.data.source)}
    return ", ".join(sorted(owners - {""}))


def identifier(job: Job, surroundings: Surroundings) -> str:
    """Returns the id of the job's run."""
    return run_id(identity(job, surroundings))
