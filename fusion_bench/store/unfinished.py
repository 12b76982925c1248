"""The training of a run that is not complete, saved so that it goes on after an interruption."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from fusion_bench import files
from fusion_bench.errors import cause
from fusion_bench.store import checkpoint
from fusion_bench.training.loop import EpochMetrics, Trained

_ARRAYS, _FACTS = "arrays", "facts.json"


class TrainingCheckpoint:
    """A folder, which need not exist, that holds the last snapshot of one training, whole at any moment.

    Each snapshot is a folder named by its epoch, and replaces the one before it once it is on the disk. Only the
    process that holds the run's lock may use it. `note` is called with a line when a training goes on, and when it
    cannot be read or saved.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda line: None):
        self._folder = folder
        self._note = note

    def load(self, like: Trained) -> Trained | None:
        """Returns the last snapshot; None if there is none, or none that is whole and like `like`."""
        saved = self._saved()
        if not saved:
            return None
        try:
            trained = _read(saved[-1], like)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._note(f"starts anew, as its unfinished training cannot be read: {cause(error)}")
            return None
        self._note(f"goes on after epoch {len(trained.curve)}")
        return trained

    def save(self, trained: Trained) -> None:
        """Saves a snapshot and removes the one before; where that is not possible the training goes on all the same."""
        try:
            files.remove_partial(self._folder)
            with files.new_folder(self._folder / f"{len(trained.curve):06}") as folder:
                checkpoint.save(folder / _ARRAYS, checkpoint.flatten(trained[:2]))
                facts = {
                    "curve": [dataclasses.asdict(entry) for entry in trained.curve],
                    "selected": trained.epoch,
                    "train_seconds": trained.train_seconds,
                    "digest": files.digest(folder / _ARRAYS),
                }
                (folder / _FACTS).write_text(json.dumps(facts, allow_nan=False) + "\n", encoding="utf-8")
            for older in self._saved()[:-1]:
                shutil.rmtree(older)
        except OSError as error:
            self._note(f"its unfinished training cannot be saved: {cause(error)}")

    def clear(self) -> None:
        """Removes what was saved."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _saved(self) -> list[Path]:
        """Returns the snapshots that are whole, the last one last."""
        return sorted(path for path in self._folder.glob("*") if path.name.isdecimal())


def _read(folder: Path, like: Trained) -> Trained:
    wanted = like.state, like.variables
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    if files.digest(folder / _ARRAYS) != facts["digest"]:
        raise ValueError("its arrays have changed since they were saved")
    stored = checkpoint.restore(folder / _ARRAYS, checkpoint.flatten(wanted))
    # Copies, of which the device is the only owner: the state will be donated.
    leaves = [jnp.array(stored[name], copy=True) for name in checkpoint.flatten(wanted)]
    state, best = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    curve = tuple(EpochMetrics(**entry) for entry in facts["curve"])
    return Trained(state, best, curve, facts["selected"], facts["train_seconds"])
