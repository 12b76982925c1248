"""A study: strategies × seeds on one dataset, each run trained once, measured, and stored."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from fusion_bench.benchmark.environment import describe_environment, package_version
from fusion_bench.benchmark.progress import Display
from fusion_bench.benchmark.reference import bayes_logits
from fusion_bench.benchmark.throughput import inference_rate, train_rate
from fusion_bench.config import BenchmarkConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError
from fusion_bench.evaluation.metrics import accuracy, cross_entropy
from fusion_bench.fusion.interface import Blueprint, PosthocFusion
from fusion_bench.fusion.registry import StrategySpec, parse_strategies
from fusion_bench.store import Run, Store, run_id
from fusion_bench.training.loop import Trained, TrainingDiverged, train
from fusion_bench.training.program import Predictor, Program, Variables, compile_predictor, compile_program, run_key

Target = Literal["label", "class"]
REFERENCE = "bayes-reference"
_REFERENCE_MODEL = "image-only"


def run_study(config: BenchmarkConfig, display: Display) -> Store:
    """Trains what is not complete in `config.out` and returns the store; a failed run is recorded, not raised.

    Raises:
      UserError: the configuration, the data or the output directory are not as they should be.
    """
    check(config)
    store = Store(config.out)
    dataset = load_dataset(config.data)
    if len(dataset.modalities) < 2:
        raise UserError(f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two")
    specs = _with_members(parse_strategies(config.strategies, dataset.task), dataset)
    study = Study(config, dataset, store, display)
    study.run(specs)
    return store


def check(config: BenchmarkConfig) -> None:
    """Raises UserError if a number in the configuration is out of range."""
    training = config.training
    for name, value in [("seeds", config.seeds), ("epochs", training.epochs), ("batch-size", training.batch_size)]:
        if value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    if not training.learning_rate > 0:
        raise UserError(f"--learning-rate is {training.learning_rate}; it must be above 0")
    if not 0 <= training.label_smoothing < 1:
        raise UserError(f"--label-smoothing is {training.label_smoothing}; it must be in 0 … 1")


def _with_members(specs: tuple[StrategySpec, ...], dataset: Dataset) -> tuple[StrategySpec, ...]:
    """Puts the unimodal runs that post-hoc strategies join before them, if they were not asked for."""
    posthoc = [spec for spec in specs if spec.registration.is_posthoc]
    trained = [spec for spec in specs if not spec.registration.is_posthoc]
    names = {spec.label for spec in trained}
    members = [f"{name}-only" for name in dataset.modalities if f"{name}-only" not in names] if posthoc else []
    added = parse_strategies(",".join(members), dataset.task) if members else ()
    return (*added, *trained, *posthoc)


@dataclasses.dataclass(frozen=True)
class Study:
    """One study in progress: what its runs share."""

    config: BenchmarkConfig
    dataset: Dataset
    store: Store
    display: Display

    def run(self, specs: tuple[StrategySpec, ...]) -> None:
        """Trains, joins and stores every run that is not complete yet."""
        trained = [spec for spec in specs if not spec.registration.is_posthoc]
        work: list[tuple[StrategySpec, list[tuple[int, Target]]]] = []
        kept = 0
        for spec in trained:
            wanted: list[tuple[int, Target]] = [(seed, "label") for seed in range(self.config.seeds)]
            if spec.label == _REFERENCE_MODEL and self._shifts:
                wanted += [(seed, "class") for seed in range(self.config.seeds)]
            missing = [(seed, target) for seed, target in wanted if not self._is_complete(spec, seed, target)]
            kept += len(wanted) - len(missing)
            work.append((spec, missing))
        if kept:
            self.display.kept(kept)
        self.display.begin(sum(len(missing) for _, missing in work), self.config.training.epochs)
        data = to_device(self.dataset)
        for spec, missing in work:
            if missing:
                self._train(spec, missing, data)
        for spec in specs:
            if spec.registration.is_posthoc:
                self._join(spec, data)
        if any(spec.label == _REFERENCE_MODEL for spec in specs):
            self._refer()

    @property
    def _shifts(self) -> bool:
        """Whether labels differ from classes, so that the Bayes reference needs models of the class."""
        captions = self.dataset.captions
        return captions is not None and captions.channel is not None and captions.channel.spec.shift > 0

    def _train(self, spec: StrategySpec, missing: list[tuple[int, Target]], data: DeviceData) -> None:
        """Compiles one strategy and trains it with each missing seed."""
        config, splits = self.config, self.dataset.splits
        self.display.compiling(spec.label)
        num_train = len(splits["train"])
        program = compile_program(spec, self.dataset.task, config.model, config.training, data, num_train)
        rates: dict[str, float] = {}
        for seed, target in missing:
            labelled = data if target == "label" else data._replace(labels=jax.numpy.asarray(self.dataset.classes))
            try:
                trained = train(
                    program, labelled, splits, seed, config.training,
                    lambda progress, seed=seed: self.display.training(spec.label, seed, progress),
                )  # fmt: skip
            except TrainingDiverged as error:
                self._write(self._new_run(spec, seed, target, status="failed", reason=str(error)))
                continue
            if not rates:
                rates |= train_rate(program, data, splits["train"])
                rates |= inference_rate(program.predict, trained.variables, data, splits["test"])
            self._store_trained(spec, seed, target, program, trained, labelled, rates)

    def _store_trained(
        self,
        spec: StrategySpec,
        seed: int,
        target: Target,
        program: Program,
        trained: Trained,
        data: DeviceData,
        rates: Mapping[str, float],
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
        metrics = {**_metrics(predictions), "epoch": trained.epoch}
        self._write(
            self._new_run(spec, seed, target, metrics=metrics, cost=cost),
            curve=pd.DataFrame([dataclasses.asdict(entry) for entry in trained.curve]),
            predictions=predictions,
            checkpoint=_pure(trained.variables),
        )

    def _join(self, spec: StrategySpec, data: DeviceData) -> None:
        """Joins the unimodal runs of each seed after the fact, from their stored scores."""
        labels, splits = self.dataset.labels, self.dataset.splits
        prior = np.bincount(labels[splits["train"]], minlength=self.dataset.num_classes) / len(splits["train"])
        costs: dict[str, float] = {}
        for seed in range(self.config.seeds):
            if self._is_complete(spec, seed, "label"):
                continue
            blueprint = Blueprint(self.dataset.task, self.config.model, run_key(seed, "init"))
            module = spec.build(blueprint)
            assert isinstance(module, PosthocFusion)
            members = self._member_runs(module, seed)
            if any(run is None or run.status == "failed" for run in members.values()):
                reason = "a unimodal run that it joins has failed"
                self._write(self._new_run(spec, seed, "label", status="failed", reason=reason))
                continue
            runs = {name: run for name, run in members.items() if run is not None}
            scores = {name: self.store.predictions(run.id) for name, run in runs.items()}
            for name, run in runs.items():
                _restore(self.store, run, module.members[name])
            validation = {name: part["validation_logits"] for name, part in scores.items()}
            module.fit(validation, labels[splits["validation"]], prior)
            predictions = {}
            for split in ("validation", "test"):
                logits = module.join({n: jax.numpy.asarray(p[f"{split}_logits"]) for n, p in scores.items()})
                predictions[f"{split}_logits"] = np.asarray(logits)
                predictions[f"{split}_labels"] = labels[splits[split]]
            if not costs:
                predictor = compile_predictor(module, data)
                costs = self._posthoc_cost(predictor, list(runs.values()), data)
            graph_state = Variables(nnx.state(module, nnx.Param), nnx.state(module, nnx.Not(nnx.Param)))
            self._write(
                self._new_run(spec, seed, "label", metrics=_metrics(predictions), cost=costs),
                predictions=predictions,
                checkpoint=_pure(graph_state),
            )

    def _member_runs(self, module: PosthocFusion, seed: int) -> dict[str, Run | None]:
        specs = {name: parse_strategies(f"{name}-only", self.dataset.task)[0] for name in module.members}
        return {name: self.store.get(run_id(self._identity(spec.label, spec, seed, "label"))) for name, spec in specs.items()}

    def _posthoc_cost(self, predictor: Predictor, members: list[Run], data: DeviceData) -> dict[str, float]:
        """Cost of a strategy whose training is that of its members, one after another."""
        rates = [run.cost["train_examples_per_s"] for run in members]
        return {
            "params": predictor.params,
            "compile_s": predictor.compile_seconds + sum(run.cost["compile_s"] for run in members),
            "train_examples_per_s": 1 / sum(1 / rate for rate in rates),
            "train_flops": sum(run.cost["train_flops"] for run in members),
            "inference_flops": predictor.inference_flops,
            **inference_rate(predictor.predict, predictor.variables, data, self.dataset.splits["test"]),
        }

    def _refer(self) -> None:
        """Stores the Bayes reference of each seed: the best that can be done with that seed's image model."""
        captions = self.dataset.captions
        if captions is None or captions.channel is None:
            return
        target: Target = "class" if self._shifts else "label"
        image_spec = parse_strategies(_REFERENCE_MODEL, self.dataset.task)[0]
        for seed in range(self.config.seeds):
            identity = self._identity(REFERENCE, None, seed, "label")
            image = self.store.get(run_id(self._identity(image_spec.label, image_spec, seed, target)))
            if image is None or image.status == "failed" or self._is_stored(run_id(identity)):
                continue
            stored = self.store.predictions(image.id)
            predictions = {}
            for split in ("validation", "test"):
                indices = self.dataset.splits[split]
                predictions[f"{split}_logits"] = bayes_logits(
                    captions, indices, stored[f"{split}_logits"], stored["validation_logits"], stored["validation_labels"]
                )
                predictions[f"{split}_labels"] = self.dataset.labels[indices]
            self._write(
                Run(
                    id=run_id(identity), status="complete", strategy=REFERENCE, family="reference", seed=seed,
                    identity=identity, data=self._data_facts(), metrics=_metrics(predictions), cost={},
                    environment=describe_environment(), baseline="only", modality=None,
                ),
                predictions=predictions,
            )  # fmt: skip

    def _identity(self, label: str, spec: StrategySpec | None, seed: int, target: Target) -> dict[str, Any]:
        """Everything that can change a run's result."""
        config = self.config
        data = dataclasses.asdict(config.data)
        del data["data_dir"], data["cache_dir"]  # The fingerprint says what was in them.
        return {
            "strategy": label,
            "options": {} if spec is None else spec.resolved_options,
            "seed": seed,
            "target": target,
            "data": data,
            "model": dataclasses.asdict(config.model),
            "training": dataclasses.asdict(config.training),
            "fingerprint": self.dataset.fingerprint,
            "version": package_version(),
            "platform": jax.default_backend(),
        }

    def _is_complete(self, spec: StrategySpec, seed: int, target: Target) -> bool:
        return self._is_stored(run_id(self._identity(spec.label, spec, seed, target)))

    def _is_stored(self, identifier: str) -> bool:
        run = self.store.get(identifier)
        return run is not None and run.status == "complete"

    def _new_run(
        self,
        spec: StrategySpec,
        seed: int,
        target: Target,
        *,
        status: Literal["complete", "failed"] = "complete",
        reason: str = "",
        metrics: Mapping[str, float] | None = None,
        cost: Mapping[str, float] | None = None,
    ) -> Run:
        identity = self._identity(spec.label, spec, seed, target)
        registration = spec.registration
        return Run(
            id=run_id(identity),
            status=status,
            strategy=spec.label,
            family=registration.family,
            seed=seed,
            identity=identity,
            data=self._data_facts(),
            metrics=dict(metrics or {}),
            cost=dict(cost or {}),
            environment=describe_environment(),
            baseline=registration.baseline,
            modality=registration.modality,
            reason=reason,
        )

    def _data_facts(self) -> dict[str, Any]:
        dataset = self.dataset
        facts: dict[str, Any] = {
            "name": dataset.name,
            "description": dataset.description,
            "captions": self.config.data.captions,
            "modalities": list(dataset.modalities),
            "num_classes": dataset.num_classes,
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

    def _write(self, run: Run, **contents: Any) -> None:
        captions = self.dataset.captions
        tokenizer = captions.tokenizer.to_str() if captions is not None and run.status == "complete" else None
        contents = {"curve": None, "predictions": None, "checkpoint": None, **contents}
        self.store.write(run, tokenizer_json=tokenizer, **contents)
        self.display.finished(run)


def _metrics(predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
    found = {}
    for split in ("validation", "test"):
        logits, labels = predictions[f"{split}_logits"], predictions[f"{split}_labels"]
        found |= {f"{split}_accuracy": accuracy(logits, labels), f"{split}_loss": cross_entropy(logits, labels)}
    return found


def _pure(variables: Variables) -> dict[str, Any]:
    """Returns variables as nested dictionaries of arrays, as checkpoints hold them."""
    return {"params": nnx.to_pure_dict(variables.params), "rest": nnx.to_pure_dict(variables.rest)}


def _restore(store: Store, run: Run, module: nnx.Module) -> None:
    """Puts a stored run's variables into a module of the same strategy."""
    params, rest = nnx.state(module, nnx.Param), nnx.state(module, nnx.Not(nnx.Param))
    stored = store.restore(run.id, _pure(Variables(params, rest)))
    nnx.replace_by_pure_dict(params, stored["params"])
    nnx.replace_by_pure_dict(rest, stored["rest"])
    nnx.update(module, params, rest)
