"""Learning curves as TensorBoard event files in DIR/tensorboard/RUN_ID, written during training."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fusion_bench import files
from fusion_bench.errors import UserError
from fusion_bench.store import Run, Store
from fusion_bench.training.loop import EpochMetrics

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

FOLDER = "tensorboard"
FLUSH_SECONDS = 1
"""Interval at which the writer's thread flushes events to disk."""
_LAST = ".test"
"""Ending of the file with the test metrics, which is written last and marks a run's events as complete."""


class EventFiles:
    """The event files of a directory of runs.

    They are no part of a run: missing ones are written again from the stored curves.
    """

    def __init__(self, store: Store, report: Callable[[str], None] = lambda line: None):
        """Creates the folder.

        Args:
          store: of the runs.
          report: is called once if events cannot be written any more; the study continues without them.

        Raises:
          UserError: it cannot be created.
        """
        self._store = store
        self._report = report
        self._broken = False
        self._folder = store.directory / FOLDER
        self._run = ""
        self._writer: SummaryWriter | None = None
        self._epochs = 0
        with files.explained(f"{self._folder} cannot be created"):
            self._folder.mkdir(parents=True, exist_ok=True)

    def training(self, identifier: str, curve: Sequence[EpochMetrics]) -> None:
        """Writes the epochs that are new.

        Args:
          identifier: of the run; the events of an earlier attempt at it are replaced.
          curve: all its finished epochs.
        """
        if not self._broken:
            with self._attempt():
                self._write(identifier, curve)

    def finished(self, run: Run) -> None:
        """Writes the remaining events of a stored run: the last epochs, and its test metrics."""
        if self._broken or run.identity.get("target") == "cost":
            return
        with self._attempt():
            if run.status == "complete":
                self._write(run.id, self._stored_curve(run))
            self._end()
            if run.status == "complete":
                with self._open(run.id, filename_suffix=_LAST) as writer:
                    for name in ("accuracy", "loss"):
                        if f"test_{name}" in run.metrics:
                            value, epoch = run.metrics[f"test_{name}"], run.metrics.get("epoch", 0)
                            writer.add_scalar(f"test/{name}", value, epoch)

    def catch_up(self) -> None:
        """Writes the events of all complete runs that lack them, because they were made earlier or elsewhere.

        Runs that another process has claimed are left to it.
        """
        for run in self._store.runs():
            if run.status == "complete" and run.identity.get("target") != "cost":
                with self._store.claim(run.id) as is_ours:
                    if is_ours and not any((self._folder / run.id).glob(f"events.*{_LAST}")):
                        shutil.rmtree(self._folder / run.id, ignore_errors=True)
                        self.finished(run)

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._broken = True
            self._report(f"events for TensorBoard cannot be written any more: {error.strerror or error}")

    def _write(self, identifier: str, curve: Sequence[EpochMetrics]) -> None:
        if curve and self._run != identifier:
            self._end()
            shutil.rmtree(self._folder / identifier, ignore_errors=True)
            self._run, self._epochs = identifier, 0
            self._writer = self._open(identifier, flush_secs=FLUSH_SECONDS)
        if self._writer is None:
            return
        for entry in curve[self._epochs :]:
            self._writer.add_scalar("train/loss", entry.train_loss, entry.epoch)
            self._writer.add_scalar("validation/loss", entry.validation_loss, entry.epoch)
            self._writer.add_scalar("validation/accuracy", entry.validation_accuracy, entry.epoch)
        self._epochs = max(self._epochs, len(curve))

    def _open(self, identifier: str, **options: Any) -> "SummaryWriter":
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self._folder / identifier), **options)

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._run, self._writer = "", None

    def _stored_curve(self, run: Run) -> list[EpochMetrics]:
        """Returns the curve; empty for post-hoc strategies and for damaged curves."""
        try:
            rows = self._store.curve(run.id).to_dict("records")
        except UserError:
            return []
        names = ("train_loss", "validation_loss", "validation_accuracy")
        return [EpochMetrics(int(row["epoch"]), *(float(row[name]) for name in names)) for row in rows]
