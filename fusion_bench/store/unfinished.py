"""The training of a run that is not complete, so that it can go on after an interruption."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_bench import files
from fusion_bench.store import checkpoint
from fusion_bench.store.record import Damaged, cause

_ARRAYS, _FACTS = "arrays", "facts.json"


class Unfinished:
    """A folder that holds the last save of one training, whole at any moment.

    Each save is a folder of its own, named by its number, and replaces the one before it once it is on the disk.
    Only the process that has claimed the run may use it.
    """

    def __init__(self, folder: Path):
        """Names the folder; it need not exist."""
        self._folder = folder

    def save(self, number: int, tree: Any, facts: Mapping[str, Any]) -> None:
        """Saves a training, and forgets what was saved before.

        Args:
          number: higher than those before it.
          tree: of arrays.
          facts: anything that JSON can hold.

        Raises:
          OSError: the disk is full, or the directory cannot be written to.
        """
        files.remove_partial(self._folder)
        with files.new_folder(self._folder / f"{number:06}") as folder:
            checkpoint.save(folder / _ARRAYS, checkpoint.flatten(tree))
            stored = {"facts": dict(facts), "digest": files.digest(folder / _ARRAYS)}
            (folder / _FACTS).write_text(json.dumps(stored, allow_nan=False) + "\n", encoding="utf-8")
        for older in self._saves()[:-1]:
            shutil.rmtree(older)

    def load(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns the tree of arrays and the facts that were saved last; None if nothing was.

        Args:
          like: a tree of the same structure, whose leaves have the same shapes and types.

        Raises:
          Damaged: they are not as they were saved, or not like `like`.
        """
        import jax

        saves = self._saves()
        if not saves:
            return None
        try:
            stored = json.loads((saves[-1] / _FACTS).read_text(encoding="utf-8"))
            if files.digest(saves[-1] / _ARRAYS) != stored["digest"]:
                raise Damaged("its arrays have changed since they were saved")
            arrays = checkpoint.restore(saves[-1] / _ARRAYS, checkpoint.flatten(like))
            ordered = [arrays[name] for name in checkpoint.flatten(like)]
            return jax.tree.unflatten(jax.tree.structure(like), ordered), dict(stored["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(cause(error)) from error

    def clear(self) -> None:
        """Forgets the training."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _saves(self) -> list[Path]:
        """The saves that are whole, the last one last."""
        return sorted(path for path in self._folder.glob("*") if path.name.isdecimal())
