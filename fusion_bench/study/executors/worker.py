"""A worker process: trains what it is sent, on cores of its own, and stores it."""

import os
import signal
import traceback
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import joblib
from rich.console import Console

from fusion_bench.axis import Registered
from fusion_bench.config import BenchmarkConfig
from fusion_bench.data.cache import cache_directory
from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import REGISTRY, Registration
from fusion_bench.store import Run, Store
from fusion_bench.study.executors.local import LocalExecutor
from fusion_bench.study.job import Job
from fusion_bench.study.progress import Display
from fusion_bench.study.resources import Resources
from fusion_bench.study.tensorboard import EventFiles
from fusion_bench.training.compile_cache import keep_compiled
from fusion_bench.training.remedies.base import remedies


class Order(NamedTuple):
    """A job to do.

    Attributes:
      job: a training.
      before: its failed run, if there is one.
      wait: until another process that is at it has ended.
    """

    job: Job
    before: Run | None
    wait: bool = False


class Event(NamedTuple):
    """A call of the study's display."""

    method: str
    arguments: tuple[Any, ...]


class Done(NamedTuple):
    """The end of an order.

    Attributes:
      is_there: whether the run is stored; False if another process is at it.
      failed: the runs that have failed.
      error: what ended the worker, if that is not a failed run.
    """

    is_there: bool
    failed: tuple[Run, ...] = ()
    error: Exception | None = None


class Origin(NamedTuple):
    """The study's process, as other processes must know it.

    Attributes:
      config: of the study.
      environment: what is stored with every run; its platform is that of every training.
      strategies: those of the user's script.
      remedies: likewise.
    """

    config: BenchmarkConfig
    environment: Mapping[str, object]
    strategies: tuple[Registration, ...]
    remedies: tuple[Registered, ...]

    @classmethod
    def of(cls, resources: Resources) -> "Origin":
        """Returns what is to be sent to other processes."""
        return cls(resources.config, resources.environment, REGISTRY.of_script(), remedies.of_script())

    def resources(self, dataset: Dataset, store: Store) -> Resources:
        """Returns the resources of this process, which trains for the study.

        Raises:
          UserError: it computes on another platform, and what it trains would be other runs.
        """
        if jax.default_backend() != self.environment["platform"]:
            raise UserError(
                f"the study's process computes on {self.environment['platform']}, and a node on "
                f"{jax.default_backend()}; both need the same kind of device"
            )
        for strategy in self.strategies:
            REGISTRY.register(strategy)
        for remedy in self.remedies:
            remedies.register(remedy)
        keep_compiled(cache_directory(self.config.data.cache_dir))
        return Resources(self.config, dataset, store, environment=self.environment)


class Setup(NamedTuple):
    """All that a worker needs to begin.

    Attributes:
      cores: those that the worker may use.
      dataset: a file of joblib's, whose arrays all workers map into memory.
      origin: the study's process.
    """

    cores: tuple[int, ...]
    dataset: Path
    origin: Origin


class _Forwarding:
    """A display that sends its events to the study's process."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def __getattr__(self, method: str):
        return lambda *arguments: self._connection.send(Event(method, arguments))


def do_jobs(resources: Resources, jobs: Iterable[Job]) -> Iterator[Run]:
    """Does jobs in a store of this process alone, and gives their runs."""
    executor = LocalExecutor(resources, Display(Console(quiet=True)))
    for job in jobs:
        executor.do(job, None)
        run = resources.store.get(resources.identifier(job))
        assert run is not None
        yield run


def use_cores(cores: tuple[int, ...]) -> None:
    """Keeps this process to some cores, so that XLA makes as many threads; to be called before XLA begins."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    else:
        os.environ["NPROC"] = str(len(cores))  # read by XLA when it makes its pool of threads


def serve(connection: Connection, setup: Setup) -> None:
    """Does orders until there is a None in their place, or the study's process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study's process ends its workers
    use_cores(setup.cores)
    try:
        _serve(connection, setup)
    except (EOFError, ConnectionError):
        return


def _serve(connection: Connection, setup: Setup) -> None:
    config, display = setup.origin.config, cast(Display, _Forwarding(connection))
    store = Store(config.out)
    resources = setup.origin.resources(joblib.load(setup.dataset, mmap_mode="c"), store)
    events = EventFiles(store, display.note) if config.tensorboard else None
    executor = LocalExecutor(resources, display, events)
    while (order := connection.recv()) is not None:
        executor.failed.clear()
        try:
            is_there = executor.do(order.job, order.before, wait=order.wait)
        except (EOFError, ConnectionError):
            raise
        except UserError as error:
            connection.send(Done(False, error=error))
        except Exception as error:
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            connection.send(Done(False, error=error))
        else:
            connection.send(Done(is_there, tuple(executor.failed)))
