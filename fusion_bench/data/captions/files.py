"""Captions from and to a file, in one of the formats of formats.py.

Column `id` is the example's index in its source, 0 .. N - 1 in the order in which the source gives them (as a rule
training examples first, then test), or, where the source has names, its name: `_match_ids` says when an index is taken
all the same. `caption` is a text, or a list of several. Other columns are ignored.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from fusion_bench import errors, files
from fusion_bench.data.captions import formats
from fusion_bench.data.captions.texts import refuse_printed
from fusion_bench.data.captions.tokenizer import without_surrogates

UNUSED = "unused"
"""Name that an export gives to the split of an example outside all splits."""


def is_caption_file(name: str) -> bool:
    """Returns whether `name` means a file of captions rather than a caption channel, which may have settings."""
    return formats.ending(Path(name)) is not None or (":" not in name and Path(name).suffix != "")


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
    ids, cells = formats.read_columns(path)
    needed = np.arange(num_examples) if needed is None else needed
    found, wanted = _match_ids(path, [_decoded(each) for each in ids], num_examples, needed.tolist(), names)
    _reject(path, "id", "duplicate", [each for each, n in Counter(found).items() if n > 1], "each id has one row")
    cell_of = dict(zip(found, cells, strict=True))
    missing = [each for each in dict.fromkeys(wanted) if each not in cell_of]
    by_name = f"ids are names such as {names[needed[0]]}, and " if missing and isinstance(missing[0], str) else ""
    _reject(path, "id", "missing", missing, f"{by_name}each example of the splits needs a row")
    texts = {each: _texts(cell_of[each]) for each in wanted}
    wrong = [f"id {each}: {_type(cell_of[each])}" for each, those in texts.items() if those is None]
    _reject(path, "caption", "not text", wrong, "a caption is a string, or a list of strings")
    empty = [each for each, those in texts.items() if not those or not all(map(str.strip, those))]
    _reject(path, "caption", "empty", empty, "each id needs a text")
    firsts = [those[0].strip() for those in texts.values() if those]
    right = "JSON lines and Parquet hold lists of strings, which are several captions"
    refuse_printed(f"{path}: its captions", firsts, right)
    captions: list[tuple[str, ...]] = [()] * num_examples
    for example, each in zip(needed.tolist(), wanted, strict=True):
        captions[example] = texts[each] or ()
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


def _match_ids(
    path: Path, ids: list[Any], num_examples: int, needed: list[int], names: Sequence[str]
) -> tuple[list[Hashable], list[Hashable]]:
    """Returns the id of each row, and that of each needed example, both as names or both as indices.

    Where the source has names, ids are names: the same strings, or the same numbers, as 295 is "0295". They are indices
    only if no needed example is there by its name, each is there by its index, and no name could be meant: none is a
    number, with an ending or without, other than the index.
    """
    numbers = [_whole(each) for each in ids]
    if names:
        if len(names) != num_examples:
            raise errors.UserError(f"the source has {len(names)} ids for {num_examples} examples; one each is right")
        found, wanted = _named(ids, numbers, names), [names[example].strip() for example in needed]
        if set(wanted) & set(found) or not _are_indices(numbers, needed, names):
            repeated = [f"{each!r}" for each, count in Counter(wanted).items() if count > 1]
            if repeated:
                right = "give each example a name of its own in the source"
                raise errors.UserError(f"{path}: id {repeated[0]} stands for several examples; {right}")
            return list(found), list(wanted)
        return list(numbers), list(needed)
    invalid = [repr(value) for value, number in zip(ids, numbers, strict=True) if number is None]
    _reject(path, "id", "invalid", invalid, "ids are whole numbers")
    outside = [number for number in numbers if not 0 <= (number or 0) < num_examples]
    _reject(path, "id", "out of range", outside, f"ids are 0..{num_examples - 1}")
    return list(numbers), list(needed)


def _named(ids: list[Any], numbers: list[int | None], names: Sequence[str]) -> list[str]:
    """Returns the name that each id means: the same string, or else the only name of the same number; or the id."""
    known = {name.strip() for name in names}
    values = Counter(map(_whole, known))
    name_of = {_whole(name): name for name in known if values[_whole(name)] == 1}
    name_of.pop(None, None)
    texts = [
        str(each if number is None or isinstance(each, str) else number).strip()
        for each, number in zip(ids, numbers, strict=True)
    ]
    return [text if text in known else name_of.get(number, text) for text, number in zip(texts, numbers, strict=True)]


def _are_indices(numbers: list[int | None], needed: list[int], names: Sequence[str]) -> bool:
    is_index = all(number is not None and 0 <= number < len(names) for number in numbers)
    meant = all(_whole(Path(names[example].strip()).stem) in (None, example) for example in needed)
    return is_index and meant and set(needed) <= set(numbers)


def _whole(value: Any) -> int | None:
    """Returns a whole number that is one, or is written as one; else None."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if math.isfinite(number) and number == int(number) and abs(number) < 2**53 else None


def _texts(cell: Any) -> tuple[str, ...] | None:
    """Returns the texts of a cell: none of a missing value; None if it holds anything else."""
    import pandas as pd

    if isinstance(cell, (list, tuple, np.ndarray)):
        texts = tuple(map(_decoded, cell))
    else:
        texts = () if pd.isna(cell) else (_decoded(cell),)
    return texts if all(isinstance(text, str) for text in texts) else None


def _decoded(value: Any) -> Any:
    """Returns bytes in UTF-8 as the string that they are; all else, bytes in another encoding too, as it is.

    A string has no half of a character afterwards.
    """
    if isinstance(value, str):
        return without_surrogates(value)
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _type(cell: Any) -> str:
    if isinstance(cell, bytes):
        return "bytes that are not UTF-8"
    if isinstance(cell, (list, tuple, np.ndarray)):
        other = next((each for each in cell if not isinstance(_decoded(each), str)), None)
        return f"a list with {type(other).__name__}"
    return type(cell).__name__


def _reject(path: Path, what: str, fault: str, culprits: Sequence, right: str) -> None:
    """Raises one line that counts the culprits and shows the first few, unless there are none."""
    if culprits:
        noun = what if len(culprits) == 1 else f"{what}s"
        first = ", ".join(str(culprit) for culprit in culprits[:3]) + (", …" if len(culprits) > 3 else "")
        raise errors.UserError(f"{path}: {len(culprits)} {noun} {fault} ({first}); {right}")
