"""Execution of jobs one after another in this process; several processes may work on one directory."""

import abc
import contextlib
import dataclasses
import math
from collections.abc import Mapping

from fusion_bench.errors import DiskFull
from fusion_bench.store import Run, Store
from fusion_bench.study.execute import Result, execute
from fusion_bench.study.job import Job
from fusion_bench.study.plan import Stage
from fusion_bench.study.progress import Display
from fusion_bench.study.resources import Resources
from fusion_bench.study.schedule import Estimate
from fusion_bench.study.tensorboard import EventFiles

COMPILE_SECONDS, EXAMPLES_PER_SECOND = 2.0, 1000.0
"""Assumed for a training whose strategy was not measured."""


class LocalExecutor:
    """Executes the missing jobs of a stage in order, and stores every result.

    Each run is made by one of the processes that work on the directory. It holds the run's lock meanwhile; the others
    wait for it at the end of the stage.

    Attributes:
      failed: the runs that have failed so far.
    """

    def __init__(self, resources: Resources, display: Display, events: EventFiles | None = None):
        self.failed: list[Run] = []
        self._resources = resources
        self._store: Store = resources.store
        self._display = display
        self._events = events
        resources.report = self._report
        resources.note = display.note

    def run(self, stage: Stage) -> None:
        """Executes the jobs of a stage without a complete run; returns when all are complete or have failed."""
        missing = self.begin(stage)
        held = [(job, before) for job, before in missing.items() if not self.do(job, before)]
        for job, before in held:
            if not self.do(job, before):
                self._display.note(f"waiting for another process: {job.description}")
                self.do(job, before, wait=True)

    def begin(self, stage: Stage) -> dict[Job, Run | None]:
        """Returns the jobs without a complete run, each with its failed run, if there is one."""
        missing = self._missing(stage)
        if stage.kind in ("tune", "train"):
            trained = sum(job.kind != "measure" for job in missing)
            kept = sum(job.kind != "measure" for job in stage.jobs) - trained
            if kept and stage.kind == "train":
                self._display.kept(kept)
            self._display.begin(trained, self._resources.config.training.epochs)
        return missing

    def _missing(self, stage: Stage) -> dict[Job, Run | None]:
        missing = {}
        for job in stage.jobs:
            identifier = self._resources.identifier(job)
            run = self._store.get(identifier)
            if identifier in self._store.damaged:
                fault = self._store.damaged[identifier]
                self._display.note(f"{job.description}: repeated, as {identifier} is damaged: {fault}")
            if run is None or run.status != "complete":
                missing[job] = run
        return missing

    def do(self, job: Job, before: Run | None, *, wait: bool = False) -> bool:
        """Executes a job unless another process does so or has done so; returns whether its run is stored now."""
        identifier = self._resources.identifier(job)
        with self._store.claim(identifier, wait=wait) as is_ours:
            if not is_ours:
                return False
            run = self._store.get(identifier)
            if run is None or run == before:
                self._display.compiling(job.label)
                self._keep(execute(job, self._resources))
            else:
                if run.status == "failed":
                    self.failed.append(run)
                self._display.elsewhere(run)
        return True

    def fail(self, job: Job, reason: str) -> bool:
        """Stores that a job has failed, unless its run is complete; returns False if another process executes it."""
        identifier = self._resources.identifier(job)
        with self._store.claim(identifier) as is_ours:
            if not is_ours:
                return False
            run = self._store.get(identifier)
            if run is not None and run.status == "complete":
                self._display.elsewhere(run)
            else:
                self._keep(Result(self._resources.record(job, reason=reason)))
        return True

    def _keep(self, result: Result) -> None:
        """Stores a result. On a full disk it stores that the run failed, or nothing if that does not fit either."""
        try:
            self._write(result)
        except DiskFull as error:  # a smaller run may still fit
            run = dataclasses.replace(result.run, status="failed", metrics={}, cost={}, reason=str(error))
            result = Result(run)
            with contextlib.suppress(DiskFull):
                self._write(result)
        self.announce(result.run)

    def announce(self, run: Run) -> None:
        """Announces a stored run to the display and the event files."""
        if run.status == "failed":
            self.failed.append(run)
        self._display.finished(run)
        if self._events is not None:
            self._events.finished(run)

    def _write(self, result: Result) -> None:
        found = {} if result.predictions is None else self._resources.dataset.tokenizers
        self._store.write(**vars(result), tokenizers={name: each.to_str() for name, each in found.items()})

    def _report(self, job: Job, progress) -> None:
        self._display.training(job.label, job.seed, progress)
        if self._events is not None:
            self._events.training(self._resources.identifier(job), progress.curve)


class TrainingsElsewhere(LocalExecutor):
    """Executes trainings in other processes, and before them the other jobs of a stage in this one.

    So costs are measured while nothing else runs, and give an estimate of each training's duration.
    """

    def run(self, stage: Stage) -> None:
        trainings = tuple(job for job in stage.jobs if job.kind in ("tune", "train") and self.can_send(job))
        super().run(Stage(stage.kind, tuple(job for job in stage.jobs if job not in trainings)))
        missing = self.begin(Stage(stage.kind, trainings))
        if missing:
            self.train(missing)

    def can_send(self, job: Job) -> bool:
        """Returns whether another process can execute a training."""
        return True

    @abc.abstractmethod
    def train(self, missing: Mapping[Job, Run | None]) -> None:
        """Executes trainings, each given with its failed run, if there is one."""

    def estimate(self, job: Job) -> Estimate:
        """Returns the expected duration of a training, from the costs of its strategy if they were measured."""
        assert job.strategy is not None
        run = self._resources.find(dataclasses.replace(job, kind="measure", seed=0, target="label", members=()))
        cost = {} if run is None else run.cost
        examples = job.training.epochs * len(self._resources.dataset.splits["train"])
        compile_seconds = float(cost.get("compile_s") or math.nan)
        return Estimate(
            program=(job.strategy, job.model, job.training),
            seconds=examples / cost.get("train_examples_per_s", EXAMPLES_PER_SECOND),
            compile_seconds=compile_seconds if math.isfinite(compile_seconds) else COMPILE_SECONDS,
        )
