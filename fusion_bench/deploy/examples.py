"""Examples in files: a row of a CSV file, or an image in a folder, and their predictions in a stream."""

import csv
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.deploy.card import MAX_CHARACTERS
from fusion_bench.deploy.images import decode
from fusion_bench.deploy.model import Classifier
from fusion_bench.errors import UserError, cause

BATCH = 64
"""Examples that are read and predicted at once."""
STANDARD_INPUT = "-"
MAX_BYTES, MAX_PIXELS = 200_000_000, 150_000_000
"""Largest image file, and its pixels: those of one's own may be larger than those of strangers."""
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Stands for a byte that is not UTF-8."""


class Row(NamedTuple):
    """One example as it is written down.

    Attributes:
      id: what its prediction is called.
      cells: by modality: the path of an image or of an .npy file, or a text.
      folder: what relative paths start at.
      fault: why there is nothing to predict, if so.
    """

    id: str
    cells: Mapping[str, str]
    folder: Path
    fault: str = ""


class Prediction(NamedTuple):
    """The calibrated probabilities of a row's classes, or why there are none."""

    id: str
    probabilities: Float64[np.ndarray, " class"] | None
    fault: str = ""


def is_picture(spec: ModalitySpec) -> bool:
    """Returns whether a modality is given as an image file: a grid of 8 bits, grey or in colour."""
    return spec.kind == "grid" and spec.dtype == "uint8" and spec.shape[-1] in (1, 3)


def read_csv(lines: Iterable[str], name: str, folder: Path, modalities: Sequence[str]) -> Iterator[Row]:
    """Returns the rows of a CSV file with a header: a column for each modality, and `id`, else rows have numbers.

    An empty cell is a missing modality. Other columns are left aside. Rows are read one after the other, as needed; one
    that is not CSV, or not UTF-8, is a fault.

    Raises:
      UserError: no column is a modality.
    """
    table = csv.DictReader(lines)
    try:
        columns = table.fieldnames or ()
    except csv.Error as error:
        raise UserError(f"{name} is not CSV: {cause(error)}") from error
    known = [column for column in modalities if column in columns]
    if not known:
        raise UserError(
            f"{name} has the columns {', '.join(columns) or 'of no header'}; the model reads {', '.join(modalities)}"
        )

    def rows() -> Iterator[Row]:
        for number in itertools.count(1):
            try:
                cells = next(table)
            except StopIteration:
                return
            except csv.Error as error:  # the reader goes on with the next line
                yield Row(str(number), {}, folder, f"it is not CSV: {cause(error)}")
                continue
            given = {column: cells[column] for column in known if cells[column]}
            is_text = not any(_SURROGATE.search(cell) for cell in given.values())
            yield Row(cells.get("id") or str(number), given, folder, "" if is_text else "it is not UTF-8")

    return rows()


def read_folder(folder: Path, picture: str, text: str | None) -> Iterator[Row]:
    """Returns a row for each file in a folder and those within, in alphabetical order, without hidden ones.

    Each file is an image; a file of the same name that ends in .txt has its caption.

    Args:
      folder: with the images.
      picture: the modality that the images are.
      text: the modality that the captions are, if there is one.

    Raises:
      UserError: it is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")

    def rows() -> Iterator[Row]:
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            if not path.is_file() or path.suffix.lower() == ".txt" or any(part.startswith(".") for part in parts):
                continue
            cells, caption = {picture: "/".join(parts)}, path.with_suffix(".txt")
            if text is not None and caption.is_file():
                cells[text] = caption.read_text(encoding="utf-8-sig", errors="replace").strip()
            yield Row("/".join(parts), cells, folder)

    return rows()


def predict_rows(
    classifier: Classifier, rows: Iterable[Row], *, neutral: bool = False, batch: int = BATCH
) -> Iterator[Prediction]:
    """Yields the prediction of each row, in order, in blocks of `batch`: no more rows are in memory.

    With `neutral` the neutral value stands for a missing modality; otherwise it is a fault.
    """
    remaining = iter(rows)
    while block := list(itertools.islice(remaining, batch)):
        read: dict[int, dict[str, Any]] = {}
        faults = {}
        for index, row in enumerate(block):
            try:
                example = read_row(classifier, row)
                example = classifier.fill(example) if neutral else example
                classifier.arrays([example])  # refuses what is wrong with this one
                read[index] = example
            except UserError as error:
                faults[index] = str(error)
        found = dict(zip(read, classifier.predict([*read.values()], batch) if read else (), strict=True))
        for index, row in enumerate(block):
            yield Prediction(row.id, found.get(index), faults.get(index, ""))


def read_row(classifier: Classifier, row: Row) -> dict[str, Any]:
    """Returns the values of a row's modalities, as `Classifier.arrays` takes them.

    Raises:
      UserError: a file cannot be read, is no image or no array, or a text is too long.
    """
    if row.fault:
        raise UserError(row.fault)
    return {
        name: _read(name, spec, row)
        for name, spec in classifier.modalities.items()
        if row.cells.get(name)  # nothing is a missing modality
    }


def _read(name: str, spec: ModalitySpec, row: Row) -> Any:
    cell = row.cells[name]
    if spec.kind == "tokens":
        if len(cell) > MAX_CHARACTERS:
            raise UserError(f"{name} has {len(cell):,} characters; at most {MAX_CHARACTERS:,} are right")
        return cell
    try:
        if not is_picture(spec):
            array = np.load(row.folder / cell, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise UserError("it is an archive; one array, as numpy.save writes it, is right")
            return array
        if cell == STANDARD_INPUT:
            return decode(sys.stdin.buffer.read(MAX_BYTES), spec.shape, MAX_PIXELS)
        path = row.folder / cell
        if path.exists() and not path.is_file():
            raise UserError("it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"it has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are right")
        return decode(path.read_bytes(), spec.shape, MAX_PIXELS)
    except (OSError, ValueError, EOFError) as error:
        fault = cause(error)
    except UserError as error:
        fault = str(error)
    raise UserError(fault if cell == row.id else f"{cell}: {fault}")
