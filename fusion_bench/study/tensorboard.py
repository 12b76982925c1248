"""Learning curves as TensorBoard event files, in DIR/tensorboard/RUN_ID, as the epochs go."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fusion_bench.errors import UserError
from fusion_bench.store import Run, Store
from fusion_bench.training.loop import EpochMetrics

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

FOLDER = "tensorboard"
FLUSH_SECONDS = 1
"""A thread of the writer's brings what is new to the disk as often."""
_LAST = ".test"
"""The ending of the file with the test metrics, which is written last: with it a run's events are all there."""


class EventFiles:
    """The event files of a directory of runs.

    They are no part of a run: what is missing is written again from the stored curves.
    """

    def __init__(self, store: Store, report: Callable[[str], None] = lambda line: None):
        """Creates the folder.

        Args:
          store: of the runs.
          report: is told, once, if no more events can be written; the study goes on without them.

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
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self._folder} cannot be created: {error.strerror}") from error

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
        """Writes what is left of a run that is stored: the last epochs, and its test metrics."""
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
        """Writes the events of all complete runs that lack them: they were made before, or elsewhere.

        What another process is just making it finishes itself.
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
        """Returns the curve; what was joined after training, or whose curve is damaged, has none."""
        try:
            rows = self._store.curve(run.id).to_dict("records")
        except UserError:
            return []
        names = ("train_loss", "validation_loss", "validation_accuracy")
        return [EpochMetrics(int(row["epoch"]), *(float(row[name]) for name in names)) for row in rows]
