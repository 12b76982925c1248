"""Captions from and to a file, in one of the formats of formats.py.

Column `id` is explained in ids.py; `caption` is a text, or a list of several. Other columns are ignored.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from fusion_bench import files
from fusion_bench.data.captions import formats
from fusion_bench.data.captions.ids import decoded, reject, rows_by_id
from fusion_bench.data.captions.texts import refuse_printed

UNUSED = "unused"
"""Name that an export gives to the split of an example outside all splits."""


def read_captions(
    path: Path, num_examples: int, needed: Int[np.ndarray, " index"] | None = None, names: Sequence[str] = ()
) -> tuple[tuple[str, ...], ...]:
    """Returns the captions of each example, in the order of the source, from a file whose rows are in any order.

    Args:
      path: of the file.
      num_examples: in the source.
      needed: the examples that need a caption; others get none. None is all.
      names: of the examples, where the source has names.

    Raises:
      UserError: the file cannot be read; an id is missing, duplicate, out of range or invalid; a caption is empty or
        not a text.
    """
    columns = formats.read_columns(path, "id", "caption")
    needed = np.arange(num_examples) if needed is None else needed
    rows = rows_by_id(path, columns["id"], num_examples, needed.tolist(), names)
    cell_of = {each: columns["caption"][row] for each, row in rows.items()}
    texts = {each: _texts(cell) for each, cell in cell_of.items()}
    wrong = [f"id {each}: {_type(cell_of[each])}" for each, those in texts.items() if those is None]
    reject(path, "caption", "not text", wrong, "a caption is a string, or a list of strings")
    empty = [each for each, those in texts.items() if not those or not all(map(str.strip, those))]
    reject(path, "caption", "empty", empty, "each id needs a text")
    firsts = [those[0].strip() for those in texts.values() if those]
    right = "JSON lines and Parquet hold lists of strings, which are several captions"
    refuse_printed(f"{path}: its captions", firsts, right)
    captions: list[tuple[str, ...]] = [()] * num_examples
    for example, those in zip(needed.tolist(), texts.values(), strict=True):
        captions[example] = those or ()
    return tuple(captions)


def export_captions(
    path: Path,
    texts: Sequence[str],
    *,
    splits: Mapping[Any, Int[np.ndarray, " index"]],
    classes: Int[np.ndarray, " example"],
    targets: Int[np.ndarray, " example"],
    shifts: Int[np.ndarray, " example"] | None = None,
) -> None:
    """Writes captions with the columns id, split, caption, y, k, t; `read_captions` reads the file again.

    Classes are y, targets t, shifts k (0 everywhere if None), all in the order of the source. The folder is made if it
    is missing.

    Raises:
      UserError: another ending, or the file cannot be written.
    """
    import pandas as pd

    formats.check_ending(path)
    split = np.full(len(texts), UNUSED, object)
    for name, indices in splits.items():
        split[indices] = name
    k = np.zeros(len(texts), np.int32) if shifts is None else shifts
    columns = {"id": np.arange(len(texts)), "split": split, "caption": list(texts), "y": classes, "k": k, "t": targets}
    with files.explained(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        formats.write_table(path, pd.DataFrame(columns))


def _texts(cell: Any) -> tuple[str, ...] | None:
    """Returns the texts of a cell: none of a missing value; None if it holds anything else."""
    import pandas as pd

    if isinstance(cell, (list, tuple, np.ndarray)):
        texts = tuple(map(decoded, cell))
    else:
        texts = () if pd.isna(cell) else (decoded(cell),)
    return texts if all(isinstance(text, str) for text in texts) else None


def _type(cell: Any) -> str:
    if isinstance(cell, bytes):
        return "bytes that are not UTF-8"
    if isinstance(cell, (list, tuple, np.ndarray)):
        other = next((each for each in cell if not isinstance(decoded(each), str)), None)
        return f"a list with {type(other).__name__}"
    return type(cell).__name__
