"""Several processes on one directory: each run is made by one of them, and the others wait for it."""

import dataclasses
from collections.abc import Callable, Iterable

from fusion_bench.benchmark.progress import Display
from fusion_bench.benchmark.records import Job, Records
from fusion_bench.store import Run, Store

Make = Callable[[Job], None]
"""Makes a run and stores it, complete or failed."""


@dataclasses.dataclass(frozen=True)
class Claims:
    """Shares the runs of a study with the processes that work on the same directory.

    Attributes:
      store: where the runs are.
      records: of the study.
      display: is told of what other processes do.
      seen: what there was of each missing run when it was found missing: nothing, or a failed run.
    """

    store: Store
    records: Records
    display: Display
    seen: dict[str, Run | None] = dataclasses.field(default_factory=dict)

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Returns the jobs whose runs are not complete."""
        missing = []
        for job in jobs:
            identifier = self.records.identifier(job)
            run = self.store.get(identifier)
            if identifier in self.store.damaged:
                fault = self.store.damaged[identifier]
                self.display.note(
                    f"{job.label}, seed {job.seed}: made anew, {identifier} is damaged: {fault}"
                )
            if run is None or run.status != "complete":
                self.seen[identifier] = run
                missing.append(job)
        return missing

    def make(self, tasks: Iterable[tuple[Job, Make]]) -> None:
        """Makes each missing run, once among all processes; returns when all are there.

        What another process is making comes last: it is waited for, and made here only if that process ended
        without storing it.
        """
        held = [task for task in tasks if not self._make(*task)]
        for job, make in held:
            if not self._make(job, make):
                self.display.note(f"waiting for another process: {job.label}, seed {job.seed}")
                self._make(job, make, wait=True)

    def _make(self, job: Job, make: Make, *, wait: bool = False) -> bool:
        """Makes a run unless another process is making it, or has; returns whether it is there now."""
        identifier = self.records.identifier(job)
        with self.store.claim(identifier, wait=wait) as is_ours:
            if not is_ours:
                return False
            run = self.store.get(identifier)
            if run is None or run == self.seen.get(identifier):
                make(job)
            else:
                if run.status == "failed":
                    self.store.failed.append(run)
                self.display.elsewhere(run)
        return True
