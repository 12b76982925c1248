"""A worker process: it executes trainings on its own cores, and stores their runs."""

import dataclasses
import os
import pickle
import signal
import traceback
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from rich.console import Console

from fusion_bench.axis import Registered
from fusion_bench.config import BenchmarkConfig
from fusion_bench.data.cache import cache_directory
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.sources import base as sources
from fusion_bench.data.sources.base import Source
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import REGISTRY, Registration
from fusion_bench.store import Run, Store
from fusion_bench.study.executors.local import LocalExecutor
from fusion_bench.study.job import Job, Surroundings
from fusion_bench.study.progress import Display
from fusion_bench.study.resources import Resources
from fusion_bench.study.tensorboard import EventFiles
from fusion_bench.training.backend import use_numerics
from fusion_bench.training.compile_cache import keep_compiled
from fusion_bench.training.remedies.base import remedies


class Order(NamedTuple):
    """A job for a worker.

    Attributes:
      job: a training.
      before: its failed run, if there is one.
      wait: whether to wait for another process that holds the run.
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
      is_there: whether the run is stored; False if another process is making it.
      failed: the runs that have failed.
      error: an error that ends the study.
    """

    is_there: bool
    failed: tuple[Run, ...] = ()
    error: Exception | None = None


class Origin(NamedTuple):
    """Facts about the study's process that other processes need.

    Attributes:
      config: of the study.
      environment: is stored with every run.
      surroundings: part of every run's identity, so they must be the same in all processes.
      strategies: registered in the user's script.
      remedies: registered in the user's script.
      sources: registered in the user's script; their names are part of a run's identity.
    """

    config: BenchmarkConfig
    environment: Mapping[str, object]
    surroundings: Surroundings
    strategies: tuple[Registration, ...]
    remedies: tuple[Registered, ...]
    sources: tuple[Source, ...]

    @classmethod
    def of(cls, resources: Resources) -> "Origin":
        """Returns the facts about this process."""
        facts = resources.config, resources.environment, resources.surroundings
        return cls(*facts, REGISTRY.of_script(), remedies.of_script(), sources.REGISTRY.of_script())

    def resources(self, dataset: Dataset, store: Store) -> Resources:
        """Returns the resources of this process, which trains for the study.

        Raises:
          UserError: its platform, packages or data differ, so that it would make other runs.
        """
        for strategy in self.strategies:
            REGISTRY.register(strategy)
        for remedy in self.remedies:
            remedies.register(remedy)
        for source in self.sources:
            sources.REGISTRY.register(source)
        use_numerics(self.surroundings.numerics)
        keep_compiled(cache_directory(self.config.data.cache_dir))
        here = Resources(self.config, dataset, store, environment=self.environment)
        ours, theirs = dataclasses.asdict(here.surroundings), dataclasses.asdict(self.surroundings)
        differing = [
            f"{name} {value} there, {theirs[name]} here" for name, value in ours.items() if value != theirs[name]
        ]
        if differing:
            raise UserError(f"a process that trains differs from the study's: {'; '.join(differing)}")
        return here


class Setup(NamedTuple):
    """Arguments of a worker.

    Attributes:
      cores: those that the worker may use.
      dataset: the folder of `write_dataset`.
      origin: the study's process.
    """

    cores: tuple[int, ...]
    dataset: Path
    origin: Origin


class StudyGone(Exception):
    """Raised when the study's process does not answer any more."""


class _Line:
    """The connection of a worker to the study's process."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def send(self, message: Event | Done) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise StudyGone from error

    def receive(self) -> Order:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise StudyGone from error


class _Forwarding:
    """A display that sends its events to the study's process."""

    def __init__(self, line: _Line):
        self._line = line

    def __getattr__(self, method: str):
        return lambda *arguments: self._line.send(Event(method, arguments))


def do_jobs(resources: Resources, jobs: Iterable[Job]) -> Iterator[Run]:
    """Executes jobs in a store that no other process uses, and yields their runs."""
    executor = LocalExecutor(resources, Display(Console(quiet=True)))
    for job in jobs:
        executor.do(job, None)
        run = resources.store.get(resources.identifier(job))
        if run is None:
            raise UserError(f"{job.description}: there is no space on its node")
        yield run


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Writes a dataset such that `read_dataset` maps its arrays into memory: a file for each, and one for the rest."""
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
    for number, buffer in enumerate(buffers):
        np.save(folder / f"{number}.npy", np.frombuffer(buffer.raw(), np.uint8))
    (folder / "rest.pickle").write_bytes(rest)


def read_dataset(folder: Path) -> Dataset:
    """Returns a dataset whose arrays all processes of the machine share, copied on write."""
    count = len(list(folder.glob("*.npy")))
    arrays = [np.load(folder / f"{number}.npy", mmap_mode="c") for number in range(count)]
    return pickle.loads((folder / "rest.pickle").read_bytes(), buffers=arrays)


def use_cores(cores: tuple[int, ...]) -> None:
    """Restricts this process to some cores, with one XLA thread per core; must be called before XLA starts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ["NPROC"] = str(len(cores))  # read by XLA when it makes its pool of threads


def serve(connection: Connection, setup: Setup) -> None:
    """Executes orders until the study's process ends this one, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study's process ends its workers
    use_cores(setup.cores)
    line = _Line(connection)
    try:
        _serve(line, setup)
    except StudyGone:
        return
    except UserError as error:
        line.send(Done(False, error=error))
    except Exception:  # as text: not every exception can be sent
        line.send(Done(False, error=RuntimeError(f"in a worker process:\n{traceback.format_exc()}")))


def _serve(line: _Line, setup: Setup) -> None:
    config, display = setup.origin.config, cast(Display, _Forwarding(line))
    store = Store(config.out)
    resources = setup.origin.resources(read_dataset(setup.dataset), store)
    events = EventFiles(store, display.note) if config.tensorboard else None
    executor = LocalExecutor(resources, display, events)
    while True:
        order = line.receive()
        executor.failed.clear()
        is_there = executor.do(order.job, order.before, wait=order.wait)
        line.send(Done(is_there, tuple(executor.failed)))
