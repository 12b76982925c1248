"""The runs below one directory."""

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_bench import files
from fusion_bench.errors import UserError, cause
from fusion_bench.store import checkpoint as checkpoints
from fusion_bench.store import record
from fusion_bench.store.record import Run, run_id

if TYPE_CHECKING:
    import pandas

CURVE = "curve.csv"
PREDICTIONS = "predictions.npz"
TOKENIZER = "tokenizer"
CHECKPOINT = "checkpoint"
_LOCKS = ".locks"
_UNFINISHED = ".training-"
_POLL_SECONDS = 0.2


class Store:
    """The runs below one directory.

    Attributes:
      directory: as given; runs are in its folder `runs`.
      damaged: what is wrong with each damaged folder found so far, by name. A run whose folder is damaged counts as
        absent, and writing it replaces the folder.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        """Opens a directory; nothing is created before the first write, and nothing is written if `read_only`.

        Raises:
          UserError: it cannot be written to, or, if `read_only`, holds no runs.
        """
        self.directory = directory
        self.damaged: dict[str, str] = {}
        self._runs = directory / "runs"
        if not read_only:
            _check_writable(self._runs)
        elif not self._runs.is_dir():
            raise UserError(f"there are no runs in {directory}; give the directory of a study")

    def get(self, identifier: str) -> Run | None:
        """Returns a run, complete or failed; None if it is absent or its folder is damaged."""
        folder = self._runs / identifier
        if not folder.is_dir():
            return None
        try:
            run = record.read_record(folder)
        except record.Damaged as error:
            self.damaged[identifier] = str(error)
            return None
        self.damaged.pop(identifier, None)
        return run

    def identifiers(self) -> list[str]:
        """Returns the names of all runs' folders, damaged ones too, in order."""
        folders = self._runs.iterdir() if self._runs.is_dir() else []
        return sorted(folder.name for folder in folders if not folder.name.startswith("."))

    def runs(self) -> list[Run]:
        """Returns all runs, complete and failed, by strategy and seed; damaged folders are left out."""
        found = [run for name in self.identifiers() if (run := self.get(name)) is not None]
        return sorted(found, key=lambda run: (run.strategy, run.seed, run.id))

    @contextlib.contextmanager
    def claim(self, identifier: str, *, wait: bool = False) -> Iterator[bool]:
        """Claims a run, which need not exist, for the time of the context, so that no other process makes it too.

        Yields whether it was claimed; False if another process has claimed it, unless `wait` waits for that one. A
        claim ends with its process, also with a killed one.

        Raises:
          UserError: the directory cannot be written to.
        """
        from filelock import FileLock, Timeout

        path = self._runs / _LOCKS / f"{identifier}.lock"
        lock = FileLock(path)
        with files.explained(f"run {identifier} cannot be written to {self._runs}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout):
                lock.acquire(poll_interval=_POLL_SECONDS, blocking=wait)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def write(
        self,
        run: Run,
        *,
        curve: "pandas.DataFrame | None" = None,
        predictions: Mapping[str, np.ndarray] | None = None,
        checkpoint: Any = None,
        tokenizers: Mapping[str, str] | None = None,
    ) -> Path:
        """Writes a run and returns its folder, which appears whole or not at all.

        A failed or damaged run of the same id is replaced. A complete one is kept: the same identity has the same
        result, and another process may have been faster.

        Args:
          run: the record.
          curve: one row per epoch.
          predictions: logits and labels, by the names that `predictions` gives them.
          checkpoint: a tree of arrays.
          tokenizers: the tokenizer of each text as JSON, by modality.

        Raises:
          DiskFull: there is no space for it.
          UserError: the directory cannot be written to.
          ValueError: the run's id does not belong to its identity.
        """
        if run.id != run_id(run.identity):
            raise ValueError(f"run {run.id!r} should have the id {run_id(run.identity)!r}")
        final = self._runs / run.id
        if self._is_complete(run.id):
            return final
        with files.explained(f"run {run.id} cannot be written to {self._runs}"), self._new_run(run.id) as folder:
            if curve is not None:
                curve.to_csv(folder / CURVE, index=False)
            if predictions is not None:
                np.savez(folder / PREDICTIONS, allow_pickle=False, **predictions)
            for name, text in (tokenizers or {}).items():
                (folder / f"{TOKENIZER}-{name}.json").write_text(text, encoding="utf-8")
            if checkpoint is not None:
                checkpoints.save(folder / CHECKPOINT, checkpoint)
            record.write_record(folder, run, sorted(path.name for path in folder.iterdir()))
        self.damaged.pop(run.id, None)
        if run.status == "complete":
            shutil.rmtree(self.unfinished(run.id), ignore_errors=True)
        return final

    def copy(self, run: Run, source: "Store") -> None:
        """Copies a complete run of another directory; it appears whole or not at all.

        A failed or damaged run of the same id is replaced, a complete one is kept.

        Raises:
          DiskFull: there is no space for it.
          UserError: it cannot be read, or the directory cannot be written to.
        """
        with self.claim(run.id, wait=True), files.explained(f"run {run.id} cannot be copied to {self._runs}"):
            if not self._is_complete(run.id):
                try:
                    with self._new_run(run.id) as folder:
                        shutil.copytree(source._runs / run.id, folder, dirs_exist_ok=True)
                except shutil.Error as error:  # of several files
                    raise UserError(f"run {run.id} cannot be copied: {error.args[0][0][2]}") from error

    def pack(self, run: Run) -> bytes:
        """Returns the files of a run as one archive, to be sent to another machine."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(self._runs / run.id, "runs/" + run.id)
        return archive.getvalue()

    def unpack(self, run: Run, archive: bytes) -> None:
        """Copies a run from an archive; raises as `copy`."""
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(folder, filter="data")
            self.copy(run, Store(Path(folder), read_only=True))

    def publish(self, name: str, text: str) -> None:
        """Writes a text file beside the runs, whole or not at all.

        Raises:
          DiskFull: there is no space for it.
          UserError: the directory cannot be written to.
        """
        with files.explained(f"{self.directory / name} cannot be written"):
            files.remove_partial(self.directory)
            files.write_text(self.directory / name, text)

    def unfinished(self, identifier: str) -> Path:
        """Returns the folder for the saved state of a training until its run is complete."""
        return self._runs / f"{_UNFINISHED}{identifier}"

    def predictions(self, identifier: str) -> dict[str, np.ndarray]:
        """Returns a run's predictions: {test, validation}_logits [example, class] and _labels [example].

        Raises:
          UserError: the run has none, or they are damaged.
        """
        with (
            self._read(identifier, "predictions") as folder,
            (folder / PREDICTIONS).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return dict(arrays)

    def tokenizer_paths(self, identifier: str) -> dict[str, Path]:
        """Returns the files with a run's tokenizers, by modality; that of older runs is `tokenizer.json`, of text."""
        found = sorted((self._runs / identifier).glob(f"{TOKENIZER}*.json"))
        return {path.stem.partition("-")[2] or "text": path for path in found}

    def curve(self, identifier: str) -> "pandas.DataFrame":
        """Returns a run's learning curve, one row per epoch.

        Raises:
          UserError: the run has none, or it is damaged.
        """
        import pandas as pd

        with self._read(identifier, "curve") as folder:
            return pd.read_csv(folder / CURVE)

    def restore(self, identifier: str, like: Any) -> Any:
        """Returns a run's checkpoint, a tree of NumPy arrays with the structure and the shapes of `like`.

        Raises:
          UserError: the run has none, it is damaged, or it is of another model than `like`.
        """
        with self._read(identifier, "checkpoint") as folder:
            record.check_digest(folder, CHECKPOINT)
            return checkpoints.restore(folder / CHECKPOINT, like)

    def checkpoint_fault(self, identifier: str) -> str:
        """Returns what is wrong with a run's checkpoint; empty if it is intact, or there is none."""
        try:
            record.check_digest(self._runs / identifier, CHECKPOINT)
        except (OSError, ValueError) as error:
            return f"{CHECKPOINT}: {cause(error)}"
        return ""

    def _is_complete(self, identifier: str) -> bool:
        run = self.get(identifier)
        return run is not None and run.status == "complete"

    @contextlib.contextmanager
    def _new_run(self, identifier: str) -> Iterator[Path]:
        """Yields the folder of a run to write into, which appears whole at the end."""
        files.remove_partial(self._runs)
        try:
            with files.new_folder(self._runs / identifier) as folder:
                yield folder
        except OSError:
            if not self._is_complete(identifier):  # else another process has just written the same run
                raise

    @contextlib.contextmanager
    def _read(self, identifier: str, what: str) -> Iterator[Path]:
        """Yields the folder of a run to read from; errors become a UserError of one line."""
        folder = self._runs / identifier
        try:
            yield folder
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            again = "delete that folder and run again"
            raise UserError(f"the {what} of {folder} cannot be read: {cause(error)}; {again}") from error


def _check_writable(folder: Path) -> None:
    """Raises UserError unless the folder, or the nearest one above it that exists, can be written to."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:  # checkpoints are written by a library that takes no such path
        raise UserError(f"results cannot be written to {folder}: its name is not UTF-8; choose another") from None
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise UserError(f"results cannot be written to {folder}: {existing} is not a directory")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError:
        raise UserError(f"results cannot be written to {folder}: {existing} is not writable") from None
