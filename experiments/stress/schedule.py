"""How long would a large study take on 1 to 256 workers, and what would limit it?

    taskset -c 0 fusion-bench run --strategies all --seeds 1 --workers 1 --out runs/one-core
    python experiments/stress/schedule.py runs/one-core [--seeds 10 --sizes 6]

Replays the schedule of the executors (study/schedule.py), without training anything, on a plan of every strategy of a
directory × seeds × sizes of training data (each size half of the one before). The directory has the durations of each
training and compilation on one core. Each worker compiles every program that it takes, as on nodes without a shared
cache. The study's process handles one result at a time; the time for that is measured first, on a study of tiny
trainings.

Found with the durations of one core of an AMD EPYC (jax 0.10.2, commit 8e96c69828, `shapes`, `tiny`, 29 strategies that
are trained: 1,740 trainings, 1.1 hours on one worker): efficiency 99 % with 8 workers, 94 % with 16, 81 % with 32, 62 %
with 64 and 41 % with 256, where the study takes as long as the longest training with its compilation, 37 s. The study's
process takes 4.7 ms per training (commit c8f7024594) and limits nothing.

Efficiency is the work of one worker, over workers × makespan. A makespan is never shorter than any of three bounds:
the work divided by the workers, the longest training with its compilation, and the study's process.
"""

import dataclasses
import heapq
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console
from rich.table import Table

from fusion_bench.config import BenchmarkConfig, DataConfig, MeasurementConfig, ModelConfig, TrainingConfig
from fusion_bench.store import Store
from fusion_bench.study.executors.workers import WorkersExecutor
from fusion_bench.study.progress import Display
from fusion_bench.study.schedule import Estimate, Schedule
from fusion_bench.study.study import run_study


@dataclasses.dataclass(frozen=True)
class Config:
    """Replays the plan of a large study over more and more workers."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """A study of one core, whose durations are used."""
    seeds: int = 10
    """Seeds of every strategy."""
    sizes: int = 6
    """Sizes of the training data."""
    workers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """Numbers of workers."""
    driver_ms: float | None = None
    """Milliseconds of the study's process for each result; measured if not given."""


class Job(NamedTuple):
    """A training of the plan."""

    strategy: str
    size: int
    seed: int


def durations(directory: Path) -> dict[str, Estimate]:
    """Returns the measured duration of each strategy's training and compilation."""
    runs = Store(directory, read_only=True).runs()
    compiled = {run.strategy: run.cost.get("compile_s") for run in runs if run.identity["target"] == "cost"}
    return {
        run.strategy: Estimate(run.strategy, run.cost["train_seconds"], compiled[run.strategy] or 0.0)
        for run in runs
        if "train_seconds" in run.cost and run.identity["target"] == "label"
    }


def plan(config: Config, measured: dict[str, Estimate]) -> dict[Job, Estimate]:
    """Returns the trainings of the large study, each with its duration."""
    return {
        Job(name, size, seed): Estimate((name, size), one.seconds / 2**size, one.compile_seconds)
        for name, one in measured.items()
        for size in range(config.sizes)
        for seed in range(config.seeds)
    }


def replay(jobs: dict[Job, Estimate], workers: int, driver: float) -> tuple[float, int]:
    """Returns when the last training has ended, in seconds, and how often a program was compiled.

    Args:
      jobs: each with its duration.
      workers: how many there are.
      driver: seconds for which a result keeps the study's process busy.
    """
    schedule = Schedule(jobs, jobs.__getitem__)
    compiled: dict[int, object] = {}
    idle, busy, now, compilations = list(range(workers)), [], 0.0, 0
    while True:
        for worker in tuple(idle):
            if (job := schedule.take(worker, now)) is not None:
                idle.remove(worker)
                one = jobs[job]
                is_new = compiled.get(worker) != one.program
                compiled[worker] = one.program
                compilations += is_new
                heapq.heappush(busy, (now + one.seconds + is_new * one.compile_seconds, worker))
        if not busy:
            return now, compilations
        end, worker = heapq.heappop(busy)
        now = max(now, end) + driver
        schedule.done(worker, now)
        idle.append(worker)


def measure_driver() -> float:
    """Returns the processor time of the study's process for each result, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        config = BenchmarkConfig(
            data=DataConfig(train_size=200, test_size=100),
            model=ModelConfig(encoder="micro"),
            training=TrainingConfig(epochs=1),
            strategies=("text-only",),
            seeds=40,
            workers=2,
            out=Path(folder),
            measurement=MeasurementConfig(seconds=0.01),
        )
        used: list[float] = []
        train = WorkersExecutor.train

        def timed(self, missing):
            before = time.process_time()
            train(self, missing)
            used.append((time.process_time() - before) / len(missing))

        WorkersExecutor.train = timed
        try:
            run_study(config, Display(Console(quiet=True)))
        finally:
            WorkersExecutor.train = train
        return used[0]


def main(config: Config) -> int:
    """Prints a row for each number of workers. Returns the exit status."""
    measured = durations(config.directory)
    if not measured:
        print(f"no training of {config.directory} is complete", file=sys.stderr)
        return 2
    driver = measure_driver() if config.driver_ms is None else config.driver_ms / 1e3
    jobs = plan(config, measured)
    work, _ = replay(jobs, 1, 0.0)
    longest = max(one.seconds + one.compile_seconds for one in jobs.values())
    table = Table(
        "workers", "makespan, s", "speed-up", "efficiency", "compilations", "highest bound", box=None, pad_edge=False
    )
    for workers in config.workers:
        makespan, compilations = replay(jobs, workers, driver)
        bounds = {"work": work / workers, "the longest training": longest, "the study's process": driver * len(jobs)}
        limit = max(bounds, key=bounds.__getitem__)
        efficiency = work / makespan / workers
        highest = f"{limit}, {max(bounds.values()):,.0f} s"
        cells = f"{makespan:,.0f}", f"{work / makespan:.1f}", f"{efficiency:.0%}", f"{compilations:,}", highest
        table.add_row(str(workers), *cells)
    console = Console()
    console.print(table)
    console.print(
        f"{len(measured)} strategies × {config.seeds} seeds × {config.sizes} sizes = {len(jobs):,} trainings, "
        f"{work / 3600:.1f} hours on one worker; the longest takes {longest:.1f} s with its compilation, "
        f"the study's process {1e3 * driver:.1f} ms for each.",
        highlight=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
