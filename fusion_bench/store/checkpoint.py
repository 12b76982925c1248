"""A model's arrays on disk, in orbax's format, independent of the device that made them."""

from pathlib import Path
from typing import Any

import numpy as np


def save(path: Path, tree: Any) -> None:
    """Writes a tree of arrays to a new directory, and returns when it is there."""
    import jax
    import orbax.checkpoint as ocp

    # As NumPy arrays they are read anywhere, and written in a third of the time.
    arrays = jax.tree.map(np.asarray, tree)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path.absolute(), arrays)


def restore(path: Path, like: Any) -> Any:
    """Reads a tree of arrays.

    Args:
      path: a directory that `save` wrote.
      like: a tree of the same structure, whose leaves have the same shapes and types.

    Raises:
      OSError: there is none.
      ValueError: it is damaged, or not like `like`.
    """
    import jax
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        stored = flatten(checkpointer.restore(path.absolute()))
    wanted = flatten(like)
    # Orbax itself would cut or pad an array of another shape in silence.
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = (_describe(tree.get(name)) for tree in (stored, wanted))
        if there != here:
            raise ValueError(f"{name} is {there} there and {here} in the model")
    return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in wanted])


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree, in their order, by their path: "params/head/kernel"."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _describe(leaf: Any) -> str:
    return "absent" if leaf is None else f"{np.shape(leaf)} {leaf.dtype}"
