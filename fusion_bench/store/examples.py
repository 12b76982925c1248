"""Examples of the test set, stored beside the runs for the report: DIR/examples/FINGERPRINT.npz."""

import dataclasses
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from fusion_bench import files

FOLDER = "examples"


@dataclasses.dataclass(frozen=True)
class Example:
    """One test example for display.

    Attributes:
      position: in the test split, as in stored logits.
      image: RGB.
      caption: its text.
      name: name of the class that the image shows.
      target: name of the class to predict, which differs where the caption shifts it.
    """

    position: int
    image: UInt8[np.ndarray, "height width 3"]
    caption: str
    name: str
    target: str


def write_examples(directory: Path, fingerprint: str, examples: Sequence[Example]) -> None:
    """Stores examples of a dataset, replacing earlier ones.

    Raises:
      UserError: the directory cannot be written to.
    """
    fields = [field.name for field in dataclasses.fields(Example)]
    columns: dict[str, Any] = {name: np.asarray([getattr(each, name) for each in examples]) for name in fields}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    path = _path(directory, fingerprint)
    with files.explained(f"{path} cannot be written"):
        files.write_bytes(path, buffer.getvalue())


def read_examples(directory: Path, fingerprint: str) -> list[Example]:
    """Returns the stored examples of a dataset; none if there is no file that can be read."""
    try:
        with np.load(io.BytesIO(_path(directory, fingerprint).read_bytes())) as stored:
            columns = {field.name: stored[field.name] for field in dataclasses.fields(Example)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return []
    positions, images, *texts = columns.values()
    rows = zip(positions.tolist(), images, *(column.tolist() for column in texts), strict=True)
    return [Example(*row) for row in rows]


def copy_examples(source: Path, target: Path) -> None:
    """Copies missing examples to the directory of another study; raises UserError if that cannot be written."""
    files.copy_missing(source / FOLDER, target / FOLDER, "*.npz")


def _path(directory: Path, fingerprint: str) -> Path:
    return directory / FOLDER / f"{fingerprint[:12]}.npz"
