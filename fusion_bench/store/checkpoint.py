"""A model's arrays on disk, in orbax's format, independent of the device that made them."""

import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from fusion_bench.logs import quiet

_OVERHEAD = 2**16
"""Bytes that a checkpoint takes beside its arrays, at most."""


def save(path: Path, tree: Any) -> None:
    """Writes a tree of arrays to a new directory, and returns when it is there.

    Raises:
      OSError: the disk is full, or the directory cannot be written to.
    """
    import jax
    import orbax.checkpoint as ocp

    # NumPy arrays can be restored on any device, and are written faster.
    arrays = jax.tree.map(np.asarray, tree)
    # Checked beforehand, as otherwise each of orbax's threads prints a traceback.
    if shutil.disk_usage(path.parent).free < sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        with quiet("absl", logging.CRITICAL), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(path.absolute(), arrays)
    except ValueError as error:  # orbax's form of the system's error
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


def restore(path: Path, like: Any) -> Any:
    """Reads a tree of arrays that `save` wrote, of the structure, shapes and types of `like`.

    Raises:
      OSError: there is none.
      ValueError: it is damaged, or not like `like`.
    """
    import jax
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        stored = flatten(checkpointer.restore(path.absolute()))
    wanted = flatten(like)
    # Orbax itself would silently cut or pad an array of another shape.
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = (_describe(tree.get(name)) for tree in (stored, wanted))
        if there != here:
            raise ValueError(f"{name} is {there} in the checkpoint and {here} in the model")
    return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in wanted])


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree, in their order, by their path: "params/head/kernel"."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _describe(leaf: Any) -> str:
    return "absent" if leaf is None else f"{np.shape(leaf)} {leaf.dtype}"
