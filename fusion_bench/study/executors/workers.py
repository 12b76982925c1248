"""Execution of trainings side by side in worker processes with their own cores, and of other jobs in this process."""

import contextlib
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import jax
import psutil
from loky.backend import get_context

from fusion_bench import files
from fusion_bench.config import BenchmarkConfig
from fusion_bench.data.cache import cache_directory
from fusion_bench.errors import ConfigError, UserError, cause
from fusion_bench.store import Run
from fusion_bench.study.executors.local import TrainingsElsewhere
from fusion_bench.study.executors.worker import Done, Event, Order, Origin, Setup, serve, write_dataset
from fusion_bench.study.job import Job
from fusion_bench.study.progress import Display
from fusion_bench.study.resources import Resources
from fusion_bench.study.schedule import Schedule
from fusion_bench.study.tensorboard import EventFiles

WORKER_BYTES = 2_000_000_000
"""Expected memory of one worker, including its programs."""


def usable_cores() -> list[int]:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def worker_count(config: BenchmarkConfig) -> int:
    """Returns the number of workers of a study: as configured, or on a CPU one per core as far as memory permits.

    Raises:
      UserError: several workers are configured for an accelerator.
    """
    if jax.default_backend() != "cpu" and config.workers not in ("auto", 1):
        rule = "each process would take an accelerator's whole memory; a Ray cluster divides it"
        raise ConfigError("workers", config.workers, rule)
    if config.workers != "auto":
        return config.workers
    if jax.default_backend() != "cpu" or config.devices != 1:
        return 1
    return max(1, min(len(usable_cores()), _available_bytes() // WORKER_BYTES))


def _available_bytes() -> int:
    """Returns the free memory of this machine, or of this container."""
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no limit, or no such system
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return free


def share(cores: list[int], workers: int) -> list[tuple[int, ...]]:
    """Returns equally many cores for each worker, so that all compute alike; if there are too few, workers share."""
    size = max(1, len(cores) // workers)
    return [tuple(cores[(number * size + core) % len(cores)] for core in range(size)) for number in range(workers)]


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C from the processes that are started in the context, which this process ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A worker process and its present order."""

    def __init__(self, setup: Setup):
        context: Any = get_context("loky")  # fresh interpreters, which do not run the user's script again
        self.connection: Any
        self.connection, theirs = context.Pipe()
        self.order: Order | None = None
        self._process: Any = context.Process(target=serve, args=(theirs, setup), daemon=True)
        with _without_interrupts():
            self._process.start()
        theirs.close()

    def send(self, order: Order) -> None:
        self.order = order
        with contextlib.suppress(OSError):  # it has died, as `receive` will show
            self.connection.send(order)

    def receive(self) -> Event | Done | None:
        """Returns its next message; None if it has died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):  # also in the middle of a message
            return None

    def end(self) -> int:
        """Kills the process and returns its exit status."""
        if self._process.exitcode is None:
            psutil.Process(self._process.pid).kill()
        self._process.join()
        self.connection.close()
        status: Any = self._process.exitcode
        return status


class WorkersExecutor(TrainingsElsewhere):
    """Trains in worker processes of this machine, which write to the study's directory themselves."""

    def __init__(self, resources: Resources, display: Display, workers: int, events: EventFiles | None = None):
        super().__init__(resources, display, events)
        self._cores = share(usable_cores(), workers)

    def train(self, missing: Mapping[Job, Run | None]) -> None:
        with self._setups() as setups:
            pool = _Pool(self, self._resources, self._display, missing, setups[: len(missing)])
            try:
                pool.start()
                while pool.hand_out():
                    pool.receive()
            finally:
                pool.end()

    @contextlib.contextmanager
    def _setups(self) -> Iterator[list[Setup]]:
        """Yields the setup of each worker; in the context the dataset is in a file that they map into memory."""
        resources = self._resources
        with contextlib.ExitStack() as stack:
            path = self._write_dataset(stack)
            yield [Setup(cores, path, Origin.of(resources)) for cores in self._cores]

    def _write_dataset(self, stack: contextlib.ExitStack) -> Path:
        """Writes the dataset beside the cache, or among temporary files where that is not possible."""
        cache = cache_directory(self._resources.config.data.cache_dir)
        for parent in (cache, Path(tempfile.gettempdir())):
            try:
                folder = stack.enter_context(files.scratch_folder(parent, "dataset"))
                write_dataset(self._resources.dataset, folder)
            except OSError as error:
                reason = cause(error)
            else:
                return folder
        raise UserError(f"the dataset cannot be written for the workers: {reason}")


class _Pool:
    """Workers, and the trainings that are not complete.

    Args:
      local: stores the failure of a training whose worker dies repeatedly.
      resources: of the study's process.
      display: receives the events of workers.
      missing: the trainings, each with its failed run, if there is one.
      setups: one for each worker.
    """

    def __init__(
        self,
        local: WorkersExecutor,
        resources: Resources,
        display: Display,
        missing: Mapping[Job, Run | None],
        setups: Sequence[Setup],
    ):
        self._local = local
        self._resources = resources
        self._display = display
        self._missing = missing
        self._setups = setups
        self._schedule = Schedule(missing, local.estimate)
        self._elsewhere: list[Job] = []
        self._deaths: Counter[Job] = Counter()
        self._workers: list[_Worker] = []

    def start(self) -> None:
        for setup in self._setups:
            self._workers.append(_Worker(setup))

    def hand_out(self) -> bool:
        """Sends a job to every idle worker while there are any; returns whether a worker is busy."""
        for number, worker in enumerate(self._workers):
            if worker.order is None and (job := self._schedule.take(number, time.monotonic())) is not None:
                worker.send(Order(job, self._missing[job]))
            elif worker.order is None and self._elsewhere and not self._schedule.waiting:
                job = self._elsewhere.pop()
                self._display.note(f"waiting for another process: {job.description}")
                self._schedule.lost(number)
                worker.send(Order(job, self._missing[job], wait=True))
        return any(worker.order for worker in self._workers)

    def receive(self) -> None:
        """Waits for messages of workers, and handles one of each."""
        busy: dict[Any, int] = {
            worker.connection: number for number, worker in enumerate(self._workers) if worker.order
        }
        for connection in wait(list(busy)):
            number = busy[connection]
            match self._workers[number].receive():
                case Event(method, arguments):
                    getattr(self._display, method)(*arguments)
                case Done() as done:
                    self._done(number, done)
                case None:
                    self._died(number)

    def end(self) -> None:
        """Kills all workers; the next command repeats what they have not stored."""
        for worker in self._workers:
            worker.end()

    def _done(self, number: int, done: Done) -> None:
        if done.error is not None:
            raise done.error
        order, self._workers[number].order = self._workers[number].order, None
        assert order is not None
        self._local.failed.extend(done.failed)
        if not done.is_there:
            self._elsewhere.append(order.job)
        if not order.wait:
            is_trained = done.is_there and not done.failed
            self._schedule.done(number, time.monotonic(), trained=is_trained)

    def _died(self, number: int) -> None:
        """Replaces a worker that has died, and repeats its training unless that has happened too often."""
        order = self._workers[number].order
        assert order is not None
        job = order.job
        cause = _describe_exit(self._workers[number].end())
        self._workers[number] = _Worker(self._setups[number])
        self._deaths[job] += 1
        self._schedule.lost(number)
        if self._deaths[job] > self._resources.config.retries:
            if not self._local.fail(job, f"its process {cause}, {self._deaths[job]} times"):
                self._elsewhere.append(job)
            return
        self._display.note(f"repeated, as its process {cause}: {job.description}")
        if order.wait:
            self._elsewhere.append(job)
        else:
            self._schedule.again(job)


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    hint = " (the system does so when memory is short)" if -status == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{hint}"
