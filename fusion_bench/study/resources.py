"""Resources that the jobs of one process share: data on the device, compiled programs, stored runs."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import jax.numpy as jnp

from fusion_bench.config import BenchmarkConfig, ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.cache import cache_directory
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset, resolved
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.store import Run, Store
from fusion_bench.store.unfinished import TrainingCheckpoint
from fusion_bench.study.job import Job, Surroundings, identifier, identity, plugins
from fusion_bench.study.provenance import describe_data, describe_environment, package_versions, threads
from fusion_bench.training.backend import memory_told, numerics
from fusion_bench.training.compile import Program, compile_program
from fusion_bench.training.compile_cache import keep_compiled
from fusion_bench.training.loop import Progress
from fusion_bench.training.mesh import device_count, replicate, use_devices


@contextmanager
def open_resources(config: BenchmarkConfig) -> "Iterator[Resources]":
    """Yields the resources of a study; batches are divided among its devices inside the context.

    Raises:
      UserError: the data, the devices or the output directory cannot be used.
    """
    keep_compiled(cache_directory(config.data.cache_dir))
    with use_devices(config.devices):
        if jax.process_count() > 1:
            raise UserError("a study runs in one process; several can only share a training: see docs/speed.md")
        store = Store(config.out)
        yield Resources(config, load_dataset(config.data), store)


class Resources:
    """Everything that `execute` needs beside a job.

    Attributes:
      config: of the study.
      dataset: in host memory.
      store: of the study's runs.
      data: the dataset on the device.
      environment: is stored with every run.
      surroundings: are part of every run's identity.
      report: is called with a job and its progress after each chunk of training.
      note: is called with a remark in one line.
    """

    def __init__(
        self, config: BenchmarkConfig, dataset: Dataset, store: Store, environment: Mapping[str, object] | None = None
    ):
        self.config = dataclasses.replace(config, data=resolved(config.data, dataset))
        self.dataset = dataset
        self.store = store
        with memory_told(f"the data, {dataset.name}"):
            self.data = replicate(to_device(dataset))
        self.report: Callable[[Job, Progress], None] = lambda job, progress: None
        self.note: Callable[[str], None] = lambda line: None
        versions = package_versions()
        self.surroundings = Surroundings(
            dataset.fingerprint, jax.default_backend(), versions, device_count(), numerics()
        )
        self.environment = describe_environment() if environment is None else {**environment, **threads()}
        self._data_facts = describe_data(dataset, self.config.data)
        self._compile = functools.lru_cache(maxsize=1)(self._compiled)

    def identifier(self, job: Job) -> str:
        return identifier(job, self.surroundings)

    def find(self, job: Job) -> Run | None:
        """Returns the job's complete run, if there is one."""
        run = self.store.get(self.identifier(job))
        return run if run is not None and run.status == "complete" else None

    def target_data(self, job: Job) -> DeviceData:
        """Returns the data on the device, with the labels that the job's model learns."""
        if job.target == "label":
            return self.data
        return self.data._replace(labels=replicate(jnp.asarray(self.dataset.classes)))

    def program(self, job: Job) -> Program:
        """Returns the compiled functions of a job; raises UserError if its strategy is not defined for these data.

        The last ones are kept for the next seeds.
        """
        assert job.strategy is not None
        return self._compile(job.strategy, job.model, job.training)

    def _compiled(self, spec: StrategySpec, model: ModelConfig, training: TrainingConfig) -> Program:
        num_train = len(self.dataset.splits["train"])
        return compile_program(spec, self.dataset.task, model, training, self.data, num_train)

    def checkpoint(self, job: Job) -> TrainingCheckpoint:
        """Returns the storage for the state of a job's training until its run is complete."""
        folder = self.store.unfinished(self.identifier(job))
        return TrainingCheckpoint(folder, lambda line: self.note(f"{job.description}: {line}"))

    def record(
        self,
        job: Job,
        *,
        metrics: Mapping[str, int | float] | None = None,
        cost: Mapping[str, int | float] | None = None,
        reason: str = "",
    ) -> Run:
        """Returns the record of the job's run; a failed one has a reason."""
        return Run(
            id=self.identifier(job),
            status="failed" if reason else "complete",
            strategy=job.label,
            family=job.registration.family,
            seed=job.seed,
            identity=identity(job, self.surroundings),
            data=self._data_facts,
            metrics=dict(metrics or {}),
            cost=dict(cost or {}),
            environment={**self.environment, "plugins": plugins(job)},
            baseline=job.registration.baseline,
            modality=job.registration.modality,
            reason=reason,
        )
