"""Formats of files with a row an example: CSV, TSV and JSON lines, which may be compressed with gzip, and Parquet."""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusion_bench.errors import UserError, cause

if TYPE_CHECKING:
    import pandas

_OF_TEXT = (".csv", ".tsv", ".jsonl")
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


_ALSO = {"caption": ("caption", "text")}
"""Names under which a column is looked for, the first one first, where it has several."""
Columns = dict[str, list[Any]]
"""Columns by name, a value a row: of a CSV strings, else of any type."""


class Wanted(NamedTuple):
    """Names of the columns that a reader needs, and of those that it also takes where they are there."""

    needed: tuple[str, ...]
    optional: tuple[str, ...]


def ending(path: Path) -> str | None:
    """Returns the ending that tells a file's format, ".csv" of "a.csv.gz"; None if it tells none."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    return suffix if suffix in _OF_TEXT or (suffix == ".parquet" and not name.endswith(".gz")) else None


def check_ending(path: Path) -> str:
    """Returns the ending that tells a file's format, or raises UserError if it tells none."""
    found = ending(path)
    if found is None:
        raise UserError(f"{path} must end in .csv, .tsv, .jsonl (or one of them and .gz) or .parquet")
    return found


def read_columns(path: Path, *needed: str, optional: tuple[str, ...] = ()) -> Columns:
    """Reads columns of a file, in the order of the rows; without those of `optional` that it lacks.

    Their names are matched without regard to case and surrounding spaces, and `text` is a caption where there is no
    `caption`. The separator of a CSV is the one that gives its header these columns. Text is UTF-8, or UTF-16 with a
    byte-order mark.

    Raises:
      UserError: the file is missing, cannot be read, or lacks a column.
    """
    import pyarrow as pa

    found, wanted = check_ending(path), Wanted(needed, optional)
    if not path.is_file():
        right = "captions come from a file or a channel" if "caption" in needed else f"it has {', '.join(needed)}"
        raise UserError(f"{path}: no such file; {right}")
    try:
        if found == ".parquet":
            return _parquet(path, wanted)
        text = _text(path)
        return _json_lines(path, text, wanted) if found == ".jsonl" else _separated(path, text, wanted)
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as {found[1:]}: {cause(error)}") from error


def write_table(path: Path, table: "pandas.DataFrame") -> None:
    """Writes a table in the format that the file's ending tells.

    Raises:
      OSError: the file cannot be written.
    """
    found = check_ending(path)
    if found == ".parquet":
        table.to_parquet(path, index=False)
        return
    compression: Any = "gzip" if path.name.lower().endswith(".gz") else None
    if found == ".jsonl":
        table.to_json(path, orient="records", lines=True, force_ascii=False, compression=compression)
    else:
        table.to_csv(path, sep="\t" if found == ".tsv" else ",", index=False, compression=compression)


def _text(path: Path) -> str:
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.decompress(content)
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_wide:
            raise UserError(f"{path} begins as UTF-16 and is not; write it again in UTF-8") from error
        line, byte = content[: error.start].count(b"\n") + 1, content[error.start]
        convert = "if it is Windows-1252, convert it with iconv -f WINDOWS-1252 -t UTF-8"
        raise UserError(f"{path} is not UTF-8 (byte 0x{byte:02X} in line {line}); {convert}") from error
    if "\0" in text:
        raise UserError(f"{path} has NUL characters; write it in UTF-8, or in UTF-16 with a byte-order mark")
    return text


def _separated(path: Path, text: str, wanted: Wanted) -> Columns:
    import pandas as pd

    header = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")

    def columns_found(separator: str) -> int:
        names = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
        return sum(bool(_named(names, each)) for each in wanted.needed)

    separator = max(_SEPARATORS, key=columns_found)
    try:
        # All as text: a caption may well be "None" or "7", and only an empty one is missing. The header is read as a
        # row, since pandas would take surplus fields for an index.
        rows = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except pd.errors.ParserError as error:
        if expected := re.search(r"Expected (\d+) fields in line (\d+)", str(error)):
            surplus = f"{path}: line {expected[2]} has more than {expected[1]} fields"
            raise UserError(f"{surplus}; a {wanted.needed[-1]} with {_SEPARATORS[separator]} needs quotes") from error
        raise
    names = rows.iloc[0].astype(str).tolist()
    return {each: rows[names.index(name)].tolist()[1:] for each, name in _columns(path, names, wanted).items()}


def _json_lines(path: Path, text: str, wanted: Wanted) -> Columns:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise UserError(f'{path}: line {number} is no JSON object such as {{"id": 0, "caption": "a cat"}}')
            rows.append(row)
    names = _columns(path, list(dict.fromkeys(name for row in rows for name in row)), wanted)
    return {each: [row.get(name) for row in rows] for each, name in names.items()}


def _parquet(path: Path, wanted: Wanted) -> Columns:
    import pandas as pd

    table = pd.read_parquet(path)
    if _named([name for name in table.index.names if name not in table.columns], "id"):
        table = table.reset_index()
    names = _columns(path, list(table.columns), wanted)
    return {each: table[name].astype(object).tolist() for each, name in names.items()}


def _columns(path: Path, names: Sequence[Any], wanted: Wanted) -> dict[str, Any]:
    """Returns the names of the columns as they are written."""
    found = {each: _named(names, each) for each in (*wanted.needed, *wanted.optional)}
    found = {each: matching for each, matching in found.items() if matching or each in wanted.needed}
    if lacking := [each for each, matching in found.items() if not matching]:
        has = ", ".join(map(str, names[:6])) or "none"
        raise UserError(f"{path} has no column {' and no column '.join(lacking)}; its columns are {has}")
    for each, matching in found.items():
        if len(matching) > 1:
            raise UserError(f"{path} has {len(matching)} columns {each}: {', '.join(map(str, matching))}; keep one")
    return {each: matching[0] for each, matching in found.items()}


def _named(names: Sequence[Any], column: str) -> list[Any]:
    """Returns the names that mean a column, exactly or but for case and spaces."""
    for each in _ALSO.get(column, (column,)):
        exact = [name for name in names if name == each]
        if like := exact or [name for name in names if str(name).strip().casefold() == each]:
            return like
    return []
