"""Speakers: what people called each image, in the place of the drawn class y' that a caption speaks of.

A file has a row for each example, in one of the formats of formats.py, with the columns

    id     as in a file of captions, see ids.py
    label  the name of the example's class: it must be the one that the source has
    named  the name of the class that a person called it
    split  test, or train or validation, if there is such a column: test must be test in the source, too

so that rows in another order, or of other data, are refused. P(y' | y) is counted. What people err on depends on the
image, so X ⟂ (w, k, t) | y does not hold: the bits and the ceilings of the text are still those of the table, but what
rests on the independence, as the Bayes reference does, is a reference and no bound.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int32

from fusion_bench import errors
from fusion_bench.data.captions import formats
from fusion_bench.data.captions.ids import decoded, reject, rows_by_id
from fusion_bench.data.dataset import SPLITS, RawDataset, Split

UNKNOWN = -1
"""The named class of an example that nothing is known of, as it is in no split."""


def read_named(path: Path, raw: RawDataset, needed: Int[np.ndarray, " index"]) -> Int32[np.ndarray, " example"]:
    """Returns the class that a person named for each example of a source; UNKNOWN for those that are not needed.

    Args:
      path: of the file.
      raw: the data of the source.
      needed: the examples that need a row. Others are not looked at.

    Raises:
      UserError: the file cannot be read or lacks a column; an id is missing, duplicate, out of range or invalid; a name
        is of no class; or a label or a split is not that of the source.
    """
    columns = formats.read_columns(path.expanduser(), "id", "label", "named", optional=("split",))
    rows = rows_by_id(path, columns["id"], len(raw.labels), needed.tolist(), raw.ids)
    label, said = (_classes(path, name, columns[name], rows, raw.class_names) for name in ("label", "named"))
    other = [
        f"id {each}: {raw.class_names[ours]} in the source, {raw.class_names[theirs]} in the file"
        for each, theirs, ours in zip(rows, label, raw.labels[needed].tolist(), strict=True)
        if theirs != ours
    ]
    in_order = "the rows must be of these data, with the ids of their order"
    reject(path, "label", "not that of the source", other, in_order)
    if "split" in columns:
        parts = [(each, str(decoded(columns["split"][row])).strip().lower()) for each, row in rows.items()]
        unknown = [f"id {each}: {theirs!r}" for each, theirs in parts if theirs not in SPLITS]
        reject(path, "split", "unknown", unknown, f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]} is right")
        split = [
            f"id {each}: {ours} in the source, {theirs} in the file"
            for (each, theirs), ours in zip(parts, raw.split[needed].tolist(), strict=True)
            if (theirs == "test") != (ours == "test")
        ]
        reject(path, "split", "not that of the source", split, in_order)
    named = np.full(len(raw.labels), UNKNOWN, np.int32)
    named[needed] = said
    return named


def count_confusion(
    named: Int[np.ndarray, " example"], classes: Int[np.ndarray, " example"], num_classes: int
) -> Float64[np.ndarray, "class named"]:
    """Returns P(y' | y) = (n(y, y') + 1/2) / (n(y) + C/2) for C classes, counted on examples of known names.

    The 1/2, of Jeffreys' prior, leaves no word impossible: a word that nobody said of a class in training may well be
    said in test.
    """
    counts = np.full((num_classes, num_classes), 0.5)
    np.add.at(counts, (classes, named), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def error_rate(named: Int[np.ndarray, " example"], classes: Int[np.ndarray, " example"]) -> float:
    """Returns the fraction of examples of which a person named another class than theirs."""
    return float(np.mean(named != classes))


def notes(
    named: Int[np.ndarray, " example"],
    classes: Int[np.ndarray, " example"],
    splits: Mapping[Split, Int[np.ndarray, " index"]],
) -> tuple[str, ...]:
    """Returns sentences that a reader of a result must know."""
    train, test = (f"{100 * error_rate(named[splits[s]], classes[splits[s]]):.1f} %" for s in ("train", "test"))
    return (
        f"People name another class in {train} of the training examples and {test} of the test examples.",
        "Their errors depend on the image, so the Bayes reference is no bound. Bits and ceilings are those of words "
        "with the errors of the training examples: where people err less in test, a model may exceed them.",
    )


def _classes(
    path: Path, column: str, cells: Sequence[Any], rows: Mapping[Any, int], class_names: Sequence[str]
) -> list[int]:
    """Returns the classes that a column names in some rows."""
    number = {name: y for y, name in enumerate(class_names)}
    found = []
    for each, row in rows.items():
        name = str(decoded(cells[row])).strip()
        if name not in number:
            raise errors.UserError(f"{path}: {column} of id {each}: {errors.unknown_name('class', name, class_names)}")
        found.append(number[name])
    return found
