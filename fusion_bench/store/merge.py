"""Merging of the runs of several directories into one."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from fusion_bench.errors import ConfigError
from fusion_bench.store.diagnosed import copy_values
from fusion_bench.store.examples import copy_examples
from fusion_bench.store.record import Run
from fusion_bench.store.store import Store


@dataclasses.dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Attributes:
      store: the directory that the runs were merged into.
      copied: number of runs that it lacked.
      known: number of runs that it had already, with the same metrics.
      failed: number of failed runs, which were left out.
      conflicts: one line for each run that it had with other metrics, which it keeps.
      damaged: one line for each damaged run, which was left out.
    """

    store: Store
    copied: int
    known: int
    failed: int
    conflicts: tuple[str, ...]
    damaged: tuple[str, ...]


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Copies the complete runs of several directories into one; of equal ids the first is kept.

    The sources are only read. `out` may have runs already, which come first.

    Raises:
      UserError: a source has no runs, `out` is a source, or it cannot be written to.
    """
    stores = [Store(source, read_only=True) for source in sources]
    if any(source.resolve() == out.resolve() for source in sources):
        raise ConfigError("out", out, "it is one of the directories to merge")
    target = Store(out)
    copied = known = failed = 0
    conflicts, damaged = [], []
    origin = {run.id: out for run in target.runs() if run.status == "complete"}
    for store in stores:
        for run in store.runs():
            if run.status != "complete":
                failed += 1
            elif fault := store.checkpoint_fault(run.id):
                damaged.append(f"{store.directory}: {run.id}: {fault}")
            elif run.id not in origin:
                target.copy(run, store)
                origin[run.id] = store.directory
                copied += 1
            elif (name := _differing(run, first := target.get(run.id))) is not None:
                theirs, ours = run.metrics.get(name), first and first.metrics.get(name)
                conflicts.append(
                    f"{run.id}: {name} is {ours} in {origin[run.id]}, which is kept, {theirs} in {store.directory}"
                )
            else:
                known += 1
            if run.status == "complete":
                copy_values(store.directory, out, run.id)
        copy_examples(store.directory, out)
        damaged += [f"{store.directory}: {name}: {fault}" for name, fault in store.damaged.items()]
    return Merged(target, copied, known, failed, tuple(conflicts), tuple(damaged))


def _differing(run: Run, other: Run | None) -> str | None:
    """Returns the first metric that differs; None if none does."""
    metrics = {} if other is None else other.metrics
    names = sorted(run.metrics.keys() | metrics.keys())
    return next((name for name in names if run.metrics.get(name) != metrics.get(name)), None)
