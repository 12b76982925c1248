"""What a study stores of each run: its identity, the facts of its data, its metrics."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from fusion_bench.benchmark.environment import (
    code_digest,
    operator_digest,
    package_version,
    package_versions,
)
from fusion_bench.benchmark.matching import Matched
from fusion_bench.config import BenchmarkConfig, TrainingConfig
from fusion_bench.data.batches import standards
from fusion_bench.data.dataset import Dataset, Modality
from fusion_bench.fusion.base import Unimodal
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy, cross_entropy
from fusion_bench.store import Run, Store, run_id
from fusion_bench.training.mesh import device_count
from fusion_bench.training.step import Variables

Target = Literal["label", "class", "tuning"]
REFERENCE = "bayes-reference"


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be made: a strategy (None for the Bayes reference), a seed, and what is learned.

    The target is "label", the study's own, "class", which differs where the caption channel shifts, or "tuning": the
    label again, to try a setting, for validation alone.

    Attributes:
      spec: the strategy.
      seed: decides initialisation, batch order and augmentation.
      target: what is learned, and what for.
      training: budget and optimiser, where tuning tries or has chosen them; None for the study's own.
    """

    spec: StrategySpec | None
    seed: int
    target: Target = "label"
    training: TrainingConfig | None = None

    @property
    def label(self) -> str:
        return REFERENCE if self.spec is None else self.spec.label


@dataclasses.dataclass(frozen=True)
class Records:
    """Makes the records of one study's runs.

    Attributes:
      config: of the study.
      dataset: of the study.
      environment: as it was when the study began, when the code was loaded.
      matched: what its strategies are matched to, if they are.
    """

    config: BenchmarkConfig
    dataset: Dataset
    environment: Mapping[str, Any]
    matched: Matched | None = None
    chosen: dict[str, TrainingConfig] = dataclasses.field(default_factory=dict)
    """What tuning chose for each strategy, by label."""

    def identity(self, job: Job) -> dict[str, Any]:
        """Returns everything that can change the job's result."""
        data = dataclasses.asdict(self.config.data)
        del data["data_dir"], data["cache_dir"]  # The fingerprint says what was in them,
        data |= {name: Path(data[name]).name for name in ("source", "captions")}  # and in any file.
        return {
            "strategy": job.label,
            "options": {} if job.spec is None else job.spec.resolved_options,
            "seed": job.seed,
            "target": job.target,
            "data": data,
            "model": dataclasses.asdict(self.config.model),
            "training": dataclasses.asdict(self._training(job)),
            "fingerprint": self.dataset.fingerprint,
            "version": package_version(),
            "packages": package_versions(),
            "code": code_digest(),
            "operator": operator_digest(Unimodal if job.spec is None else job.spec.registration.make),
            "platform": jax.default_backend(),
            **({} if device_count() == 1 else {"devices": device_count()}),
            **({} if self.matched is None else {"match": dataclasses.asdict(self.matched)}),
            **self._tuned(job),
        }

    def _tuned(self, job: Job) -> dict[str, Any]:
        """Returns how many settings were tried, and those that the job rests on: its own, or its members'."""
        if not self.config.tune or job.target == "tuning":
            return {}
        is_joined = job.spec is None or job.spec.registration.is_posthoc
        labels = [f"{name}-only" for name in self.dataset.modalities] if is_joined else [job.label]
        if job.target == "class":  # tuning was for the label
            labels = []
        used = {label: _setting(self.chosen[label]) for label in labels if label in self.chosen}
        return {"tune": self.config.tune, "tuned": used}

    def _training(self, job: Job) -> TrainingConfig:
        if job.target == "tuning" and job.training is not None:
            return job.training
        return self.config.training

    def identifier(self, job: Job) -> str:
        """Returns the id of the job's run."""
        return run_id(self.identity(job))

    def find(self, store: Store, job: Job) -> Run | None:
        """Returns the job's complete run, if there is one."""
        run = store.get(self.identifier(job))
        return run if run is not None and run.status == "complete" else None

    def complete(self, job: Job, metrics: Mapping[str, int | float], cost: Mapping[str, int | float]) -> Run:
        """Returns the record of a run that went well."""
        return self._run(job, status="complete", metrics=dict(metrics), cost=dict(cost))

    def failed(self, job: Job, reason: str) -> Run:
        """Returns the record of a run that did not."""
        return self._run(job, status="failed", metrics={}, cost={}, reason=reason)

    def _run(self, job: Job, **outcome: Any) -> Run:
        identity = self.identity(job)
        registration = None if job.spec is None else job.spec.registration
        return Run(
            id=run_id(identity),
            strategy=job.label,
            family="reference" if registration is None else registration.family,
            seed=job.seed,
            identity=identity,
            data=self._data_facts,
            environment=dict(self.environment),
            baseline="only" if registration is None else registration.baseline,
            modality=None if registration is None else registration.modality,
            **outcome,
        )

    @functools.cached_property
    def _data_facts(self) -> dict[str, Any]:
        dataset = self.dataset
        facts: dict[str, Any] = {
            "name": dataset.name,
            "description": dataset.description,
            "captions": "its own" if dataset.captions is None else Path(self.config.data.captions).name,
            "modalities": list(dataset.modalities),
            "num_classes": dataset.num_classes,
            "class_names": list(dataset.class_names),
            "inputs": {name: self._input_facts(modality) for name, modality in dataset.modalities.items()},
            **{f"n_{split}": len(indices) for split, indices in dataset.splits.items()},
        }
        if dataset.captions is not None and dataset.captions.channel is not None:
            channel = dataset.captions.channel
            facts |= {
                "bits": channel.bits,
                "interaction_bits": channel.interaction_bits,
                "text_only_ceiling": channel.text_only_ceiling,
                "image_only_ceiling": channel.image_only_ceiling,
            }
        return facts

    def _input_facts(self, modality: Modality) -> dict[str, Any]:
        """Returns what of a modality its part of a model was built for, and what standardises it."""
        mean, deviation = standards(modality, self.dataset.splits["train"])
        spec = {**dataclasses.asdict(modality.spec), "shape": list(modality.spec.shape)}
        return {**spec, "mean": mean.tolist(), "deviation": deviation.tolist()}


def _setting(training: TrainingConfig) -> dict[str, float]:
    return {"learning_rate": training.learning_rate, "weight_decay": training.weight_decay}


def metrics_of(predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns accuracy and cross-entropy, in nats, on validation and test, as far as they are there."""
    found = {}
    for split in ("validation", "test"):
        if f"{split}_logits" not in predictions:
            continue
        logits, labels = predictions[f"{split}_logits"], predictions[f"{split}_labels"]
        found |= {
            f"{split}_accuracy": accuracy(logits, labels),
            f"{split}_loss": cross_entropy(logits, labels),
        }
    return found


def checkpoint_of(variables: Variables) -> dict[str, Any]:
    """Returns variables as nested dictionaries of arrays, as checkpoints hold them."""
    return {"params": nnx.to_pure_dict(variables.params), "rest": nnx.to_pure_dict(variables.rest)}


def variables_of(module: nnx.Module) -> Variables:
    """Returns a module's present variables."""
    return Variables(nnx.state(module, nnx.Param), nnx.state(module, nnx.Not(nnx.Param)))


def restore(store: Store, run: Run, module: nnx.Module) -> None:
    """Puts a stored run's variables into a module of the same strategy."""
    variables = variables_of(module)
    stored = store.restore(run.id, checkpoint_of(variables))
    nnx.replace_by_pure_dict(variables.params, stored["params"])
    nnx.replace_by_pure_dict(variables.rest, stored["rest"])
    nnx.update(module, *variables)
