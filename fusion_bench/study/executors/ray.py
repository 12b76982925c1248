"""Trainings as tasks of a Ray cluster; all else in this process.

A task is a strategy with its missing seeds. It trains in a folder of its node, and sends back the files of each run as
soon as that is complete, so that no disk is shared and no lock is relied on. Ray repeats the task of a node that is
lost.
"""

import os
import tempfile
import typing
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from fusion_bench.config import BenchmarkConfig, ClusterConfig
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import ConfigError, UserError
from fusion_bench.store import Run, Store
from fusion_bench.study.executors.local import TrainingsElsewhere
from fusion_bench.study.executors.worker import Origin, do_jobs
from fusion_bench.study.job import Job

MEMORY_SHARE = 0.9
"""The part of its share of a GPU's memory that a training may take."""


@typing.no_type_check  # Ray looks whether it is a generator, which the wrapper of a type checker would hide
def train_jobs(origin: Origin, dataset: Dataset | None, jobs: tuple[Job, ...]) -> Iterator[tuple[Run, bytes]]:
    """Trains jobs one after another and gives each run with its files; the body of a task.

    Args:
      origin: the study's process.
      dataset: None is loaded from this node's disk.
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
        slots = int(ray.cluster_resources().get("CPU", 1)) // config.cluster.cpus_per_run
        pending = {task.remote(origin, dataset, jobs): list(jobs) for jobs in self.tasks(missing, slots)}
        try:
            while pending:
                (stream,), _ = ray.wait(list(pending), num_returns=1)
                self._receive(ray, stream, pending)
        finally:
            for stream in pending:
                ray.cancel(stream, force=True)

    def tasks(self, missing: Mapping[Job, Run | None], slots: int) -> list[tuple[Job, ...]]:
        """Divides trainings into tasks of one program each, the longest first, as many as can run at once or more."""
        programs: defaultdict[Hashable, list[Job]] = defaultdict(list)
        for job in missing:
            programs[self.estimate(job).program].append(job)
        tasks = []
        for jobs in programs.values():
            parts = min(len(jobs), max(1, round(slots * len(jobs) / len(missing))))
            tasks += [tuple(jobs[part::parts]) for part in range(parts)]
        return sorted(tasks, key=lambda jobs: -sum(self.estimate(job).seconds for job in jobs))

    def _receive(self, ray: Any, stream: Any, pending: dict[Any, list[Job]]) -> None:
        """Stores the next run of a task, or that those which are left have failed."""
        try:
            run, files = ray.get(next(stream))
        except StopIteration:
            del pending[stream]
        except ray.exceptions.RayTaskError as error:  # of our own code
            raise error.cause if isinstance(error.cause, UserError) else error from None
        except ray.exceptions.RayError as error:
            retries = self._resources.config.retries
            reason = f"its task was lost {retries + 1} times: {str(error).strip().splitlines()[0]}"
            for job in pending.pop(stream):
                self.fail(job, reason)
        else:
            pending[stream] = [job for job in pending[stream] if self._resources.identifier(job) != run.id]
            self._store.unpack(run, files)
            self.tell(run)


def connect(config: BenchmarkConfig) -> Any:
    """Returns the module ray, connected to the cluster.

    Raises:
      UserError: Ray is not installed, there is no such cluster, or it lacks what a training asks for.
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
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError("ray_address", config.cluster.ray_address, f"Ray answers: {error}") from None
    _check(config.cluster, ray.cluster_resources())
    return ray


def _check(cluster: ClusterConfig, available: Mapping[str, float]) -> None:
    """Raises UserError where a training asks for more than all nodes have: Ray would wait for it for ever."""
    asked = {"CPU": ("cpus_per_run", cluster.cpus_per_run), "GPU": ("gpus_per_run", cluster.gpus_per_run)}
    for kind, (field, count) in asked.items():
        if count > available.get(kind, 0):
            raise ConfigError(field, count, f"the cluster has {available.get(kind, 0):g} {kind}s")


def resources_of_a_run(config: BenchmarkConfig) -> dict[str, Any]:
    """Returns the options of a task: what it may use of a node, and how often it is repeated."""
    cluster = config.cluster
    variables = {"NPROC": str(cluster.cpus_per_run)}  # XLA makes as many threads
    if 0 < cluster.gpus_per_run < 1:
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{MEMORY_SHARE * cluster.gpus_per_run:.2f}"
    if not cluster.gpus_per_run:
        variables["JAX_PLATFORMS"] = jax.default_backend()
    return {
        "num_cpus": cluster.cpus_per_run,
        "num_gpus": cluster.gpus_per_run,
        "max_retries": config.retries,
        "runtime_env": {"env_vars": variables},
    }
