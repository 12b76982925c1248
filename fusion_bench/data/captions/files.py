"""Captions from and to a CSV or Parquet file.

Column `id` is the example's index in its source, 0 .. N - 1 in the order in which the source gives them (as a
rule training examples first, then test), and `caption` is the text. Other columns are ignored.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from fusion_bench import errors, files

if TYPE_CHECKING:
    import pandas

ENDINGS = (".csv", ".parquet")
UNUSED = "unused"
"""Name that an export gives to the split of an example outside all splits."""


def is_caption_file(name: str) -> bool:
    """Returns whether `name` means a file of captions rather than a caption channel."""
    return Path(name).suffix.lower() in ENDINGS


def read_captions(path: Path, num_examples: int) -> tuple[str, ...]:
    """Returns the caption of each example, in the order of the source, from a file whose rows are in any order.

    Raises:
      UserError: the file is missing or cannot be read, a column is missing, an id is missing, duplicate, out
        of range or not an integer, or a caption is empty.
    """
    import pandas as pd

    table = _read_table(path)
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields for an index
        raise errors.UserError(f"{path} has rows with more fields than columns; a caption with a comma needs quotes")
    if lacking := [column for column in ("id", "caption") if column not in table.columns]:
        lacks = " and no column ".join(lacking)
        raise errors.UserError(f"{path} has no column {lacks}; it needs the columns id and caption")
    ids = _integer_ids(path, table)
    _reject(path, "id", "out of range", ids[(ids < 0) | (ids >= num_examples)], f"ids are 0..{num_examples - 1}")
    counts = np.bincount(ids, minlength=num_examples)
    _reject(path, "id", "duplicate", np.flatnonzero(counts > 1), "each id has one row")
    _reject(path, "id", "missing", np.flatnonzero(counts == 0), f"each of 0..{num_examples - 1} needs a row")
    caption = table["caption"].astype(object)
    texts = caption.where(caption.notna(), "").astype(str)
    empty = (texts.str.strip() == "").to_numpy(bool)
    _reject(path, "caption", "empty", np.sort(ids[empty]), "each id needs a text")
    return tuple(texts.to_numpy(object)[np.argsort(ids)].tolist())


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

    _check_ending(path)
    split = np.full(len(texts), UNUSED, object)
    for name, indices in splits.items():
        split[indices] = name
    k = np.zeros(len(texts), np.int32) if shifts is None else shifts
    columns = {"id": np.arange(len(texts)), "split": split, "caption": list(texts), "y": classes, "k": k, "t": targets}
    table = pd.DataFrame(columns)
    with files.explained(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)


def _read_table(path: Path) -> "pandas.DataFrame":
    import pandas as pd
    import pyarrow as pa

    _check_ending(path)
    if not path.is_file():
        raise errors.UserError(f"{path}: no such file; captions come from a .csv or .parquet file or a channel")
    try:
        if path.suffix.lower() == ".csv":
            # All as text: a caption may well be "None" or "7", and only an empty one is missing.
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        return pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:  # what both parsers raise derives from these
        raise errors.UserError(f"{path} cannot be read as {path.suffix[1:].lower()}: {errors.cause(error)}") from error


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise errors.UserError(f"{path} must end in {' or '.join(ENDINGS)}")


def _integer_ids(path: Path, table: "pandas.DataFrame") -> Int[np.ndarray, " row"]:
    import pandas as pd

    numbers = pd.Series(pd.to_numeric(table["id"], errors="coerce")).to_numpy(np.float64, na_value=np.nan)
    wrong = ~np.isfinite(numbers) | (numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53)
    _reject(path, "id", "invalid", [repr(value) for value in table["id"][wrong]], "ids are whole numbers")
    return numbers.astype(np.int64)


def _reject(path: Path, what: str, fault: str, culprits: Sequence | np.ndarray, right: str) -> None:
    """Raises one line that counts the culprits and shows the first few, unless there are none."""
    if len(culprits):
        noun = what if len(culprits) == 1 else f"{what}s"
        first = ", ".join(str(culprit) for culprit in culprits[:3]) + (", …" if len(culprits) > 3 else "")
        raise errors.UserError(f"{path}: {len(culprits)} {noun} {fault} ({first}); {right}")
