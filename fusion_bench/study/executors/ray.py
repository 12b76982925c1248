"""Execution of trainings as tasks of a Ray cluster, and of all other jobs in this process.

A task is a strategy with its missing seeds. It trains in a folder of its node, and sends back the files of each run as
soon as it is complete, so no disk is shared. There are no locks either: two studies in the same directory train the
same run twice. The remaining trainings of a task whose node is lost are started again.
"""

import dataclasses
import logging
import os
import tempfile
import typing
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from fusion_bench.config import BenchmarkConfig, ClusterConfig
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import ConfigError, DiskFull, UserError
from fusion_bench.store import Run, Store
from fusion_bench.study.execute import Result
from fusion_bench.study.executors.local import TrainingsElsewhere
from fusion_bench.study.executors.worker import Origin, do_jobs
from fusion_bench.study.job import Job
from fusion_bench.study.resources import Resources

MEMORY_SHARE = 0.9
"""Fraction of its share of a GPU's memory that a training may take."""


@typing.no_type_check  # Ray looks whether it is a generator, which the wrapper of a type checker would hide
def train_jobs(origin: Origin, dataset: Dataset | None, jobs: tuple[Job, ...]) -> Iterator[tuple[Run, bytes]]:
    """Trains jobs one after another and yields each run with its files; the body of a task.

    Args:
      origin: the study's process.
      dataset: None to load it from this node's disk.
      jobs: of one strategy.
    """
    data = load_dataset(origin.config.data) if dataset is None else dataset
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for run in do_jobs(origin.resources(data, store), jobs):
            yield run, store.pack(run)


class RayExecutor(TrainingsElsewhere):
    """Trains in tasks of a Ray cluster."""

    def train(self, missing: Mapping[Job, Run | None]) -> None:
        ray, config = connect(self._resources.config), self._resources.config
        origin = ray.put(Origin.of(self._resources))
        dataset = None if config.cluster.load_on_nodes else ray.put(self._resources.dataset)
        task = ray.remote(train_jobs).options(num_returns="streaming", **resources_of_a_run(config))
        tasks = _Tasks(self, self._resources, ray, lambda jobs: task.remote(origin, dataset, jobs))
        for jobs in self.tasks(missing, slots(config.cluster, ray.cluster_resources())):
            tasks.start(jobs)
        try:
            while tasks.pending:
                tasks.receive()
        finally:
            for stream in tasks.pending:
                ray.cancel(stream, force=True)

    def can_send(self, job: Job) -> bool:
        """Returns whether a training needs no other run, as tasks do not read the study's store."""
        return not job.members

    def tasks(self, missing: Mapping[Job, Run | None], slots: int) -> list[tuple[Job, ...]]:
        """Divides trainings into tasks of one program each, the longest first, at least as many as can run at once."""
        programs: defaultdict[Hashable, list[Job]] = defaultdict(list)
        for job in missing:
            programs[self.estimate(job).program].append(job)
        tasks = []
        for jobs in programs.values():
            parts = min(len(jobs), max(1, round(slots * len(jobs) / len(missing))))
            tasks += [tuple(jobs[part::parts]) for part in range(parts)]
        return sorted(tasks, key=lambda jobs: -sum(self.estimate(job).seconds for job in jobs))

    def store(self, run: Run, archive: bytes) -> None:
        """Stores a run that a task has sent."""
        try:
            self._store.unpack(run, archive)
        except DiskFull as error:
            run = dataclasses.replace(run, status="failed", metrics={}, cost={}, reason=str(error))
            self._keep(Result(run))
        else:
            self.announce(self._store.get(run.id) or run)


class _Tasks:
    """Tasks that are not done, each with its trainings that have not come back."""

    def __init__(self, executor: RayExecutor, resources: Resources, ray: Any, submit: Callable[[tuple[Job, ...]], Any]):
        self.pending: dict[Any, list[Job]] = {}
        self._executor = executor
        self._resources = resources
        self._ray = ray
        self._submit = submit
        self._losses: Counter[Job] = Counter()

    def start(self, jobs: Sequence[Job]) -> None:
        self.pending[self._submit(tuple(jobs))] = list(jobs)

    def receive(self) -> None:
        """Waits for the next run of any task, or for its end."""
        (stream,), _ = self._ray.wait(list(self.pending), num_returns=1)
        errors = self._ray.exceptions
        try:
            run, archive = self._ray.get(next(stream))
        except StopIteration:
            for job in self.pending.pop(stream):
                self._executor.fail(job, "its task ended without a result")
        except errors.RayTaskError as error:  # of our own code
            raise error.cause if isinstance(error.cause, UserError) else error from None
        except errors.RayError as error:
            self._repeat(self.pending.pop(stream), error)
        else:
            jobs = self.pending[stream]
            jobs[:] = [job for job in jobs if self._resources.identifier(job) != run.id]
            self._executor.store(run, archive)

    def _repeat(self, jobs: Sequence[Job], error: Exception) -> None:
        """Starts the remaining trainings of a lost task again, unless the first of them was lost too often."""
        self._losses.update(jobs[:1])
        line = str(error).strip().splitlines()[0]
        if jobs and self._losses[jobs[0]] > self._resources.config.retries:
            self._executor.fail(jobs[0], f"its task was lost {self._losses[jobs[0]]} times: {line}")
            jobs = jobs[1:]
        if jobs:
            self._resources.note(f"repeated, as its task was lost: {jobs[0].description}")
            self.start(jobs)


def slots(cluster: ClusterConfig, available: Mapping[str, float]) -> int:
    """Returns the number of trainings that can run at once."""
    counts = [available.get("CPU", 0) / cluster.cpus_per_run]
    if cluster.gpus_per_run:
        counts.append(available.get("GPU", 0) / cluster.gpus_per_run)
    return max(1, int(min(counts)))


def connect(config: BenchmarkConfig) -> Any:
    """Returns the module ray, connected to the cluster.

    Raises:
      UserError: Ray is not installed, there is no such cluster, or it lacks the resources of a training.
    """
    try:
        import ray
    except ImportError:
        raise UserError("a cluster needs Ray: pip install 'fusion-bench-jax[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        try:
            with warnings.catch_warnings():
                # Ray's own processes are forked only to become other programs at once.
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                address = config.cluster.ray_address or "local"
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError("ray_address", config.cluster.ray_address, f"Ray answers: {error}") from None
    check(config.cluster, [node["Resources"] for node in ray.nodes() if node["Alive"]], jax.default_backend())
    return ray


def check(cluster: ClusterConfig, nodes: Sequence[Mapping[str, float]], platform: str) -> None:
    """Raises UserError if no node has the resources of a training: Ray would wait for them forever.

    Args:
      cluster: has the resources of a training.
      nodes: resources of each node, by Ray's names.
      platform: of the study's process, and so of all trainings.
    """
    if platform == "gpu" and not cluster.gpus_per_run:
        raise ConfigError("gpus_per_run", 0, "this process computes on a GPU, and so must the trainings")
    asked = {"CPU": ("cpus_per_run", cluster.cpus_per_run), "GPU": ("gpus_per_run", cluster.gpus_per_run)}
    fitting = list(nodes)
    for kind, (field, count) in asked.items():
        most = max((node.get(kind, 0) for node in fitting), default=0)
        if count > most:
            raise ConfigError(field, count, f"no node of the cluster has more than {most:g} {kind}s for it")
        fitting = [node for node in fitting if node.get(kind, 0) >= count]


def resources_of_a_run(config: BenchmarkConfig) -> dict[str, Any]:
    """Returns the options of a task: the resources that it may use."""
    cluster = config.cluster
    variables = {"NPROC": str(cluster.cpus_per_run)}  # XLA makes as many threads
    if 0 < cluster.gpus_per_run < 1:
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{MEMORY_SHARE * cluster.gpus_per_run:.2f}"
    if not cluster.gpus_per_run:
        variables["JAX_PLATFORMS"] = jax.default_backend()
    return {
        "num_cpus": cluster.cpus_per_run,
        "num_gpus": cluster.gpus_per_run,
        "max_retries": 0,  # a task is repeated from here, without the runs that were received
        "runtime_env": {"env_vars": variables},
    }
