"""Saved state of an incomplete training, from which it resumes after an interruption."""

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
    """A folder, which need not exist, with the last saved state of one training.

    Each state is a folder named by its epoch, and replaces the one before it once it is on the disk, so there is a
    complete one at any moment. Only the process that holds the run's lock may use it. `note` is called with a line when
    a training resumes, and when its state cannot be read or saved.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda line: None):
        self._folder = folder
        self._note = note

    def load(self, like: Trained) -> Trained | None:
        """Returns the last state; None if there is none that can be read and has the structure of `like`."""
        saved = self._saved()
        if not saved:
            return None
        try:
            trained = _read(saved[-1], like)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._note(f"starts again, as its saved state cannot be read: {cause(error)}")
            return None
        self._note(f"resumes after epoch {len(trained.curve)}")
        return trained

    def save(self, trained: Trained) -> None:
        """Saves a state and removes the one before; if that fails, the training continues without."""
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
            self._note(f"its state cannot be saved: {cause(error)}")

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _saved(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*") if path.name.isdecimal())


def _read(folder: Path, like: Trained) -> Trained:
    wanted = like.state, like.variables
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    if files.digest(folder / _ARRAYS) != facts["digest"]:
        raise ValueError("its arrays have changed since they were saved")
    stored = checkpoint.restore(folder / _ARRAYS, checkpoint.flatten(wanted))
    # Copies that only the device owns, as the state will be donated.
    leaves = [jnp.array(stored[name], copy=True) for name in checkpoint.flatten(wanted)]
    state, best = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    curve = tuple(EpochMetrics(**entry) for entry in facts["curve"])
    return Trained(state, best, curve, facts["selected"], facts["train_seconds"])
