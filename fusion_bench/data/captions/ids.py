"""Rows of a file by the ids of a source's examples.

An id is the example's index in its source, 0 .. N - 1 in the order in which the source gives them (as a rule training
examples first, then test), or, where the source has names, its name: `_match` says when an index is taken all the same.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_bench import errors
from fusion_bench.data.captions.tokenizer import without_surrogates


def rows_by_id(
    path: Path, ids: Sequence[Any], num_examples: int, needed: Sequence[int], names: Sequence[str]
) -> dict[Hashable, int]:
    """Returns the row of each needed example by its id, in the order of `needed`.

    Args:
      path: of the file, for messages.
      ids: of the rows.
      num_examples: in the source.
      needed: the examples that need a row.
      names: of the examples, where the source has names.

    Raises:
      UserError: an id is missing, duplicate, out of range or invalid.
    """
    found, wanted = _match(path, [decoded(each) for each in ids], num_examples, [*needed], names)
    reject(path, "id", "duplicate", [each for each, n in Counter(found).items() if n > 1], "each id has one row")
    row_of = {each: row for row, each in enumerate(found)}
    missing = [each for each in dict.fromkeys(wanted) if each not in row_of]
    by_name = f"ids are names such as {names[needed[0]]}, and " if missing and isinstance(missing[0], str) else ""
    reject(path, "id", "missing", missing, f"{by_name}each example of the splits needs a row")
    return {each: row_of[each] for each in wanted}


def reject(path: Path, what: str, fault: str, culprits: Sequence, right: str) -> None:
    """Raises one line that counts the culprits and shows the first few, unless there are none."""
    if culprits:
        noun = what if len(culprits) == 1 else f"{what}s"
        first = ", ".join(str(culprit) for culprit in culprits[:3]) + (", …" if len(culprits) > 3 else "")
        raise errors.UserError(f"{path}: {len(culprits)} {noun} {fault} ({first}); {right}")


def decoded(value: Any) -> Any:
    """Returns bytes in UTF-8 as the string that they are; all else, bytes in another encoding too, as it is.

    A string has no half of a character afterwards.
    """
    if isinstance(value, str):
        return without_surrogates(value)
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _match(
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
    reject(path, "id", "invalid", invalid, "ids are whole numbers")
    outside = [number for number in numbers if not 0 <= (number or 0) < num_examples]
    reject(path, "id", "out of range", outside, f"ids are 0..{num_examples - 1}")
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
