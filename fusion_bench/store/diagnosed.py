"""Values of diagnostics, stored beside the runs: DIR/diagnostics/RUN_ID/NAME.json, and all of them as a CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion_bench import files
from fusion_bench.config import Choice
from fusion_bench.store.record import Run

FOLDER = "diagnostics"


def write_values(
    directory: Path,
    identifier: str,
    label: str,
    choice: Choice,
    version: int,
    companions: Sequence[str],
    values: Mapping[str, float],
    environment: Mapping[str, Any],
) -> None:
    """Stores the values of a diagnostic of a run, replacing those of another version.

    The file is named by the label, which has the options that differ from their defaults; `choice` has all options, and
    `companions` the ids of the other runs on which the values depend.

    Raises:
      UserError: the directory cannot be written to.
    """
    record = {
        "diagnostic": choice.name,
        "options": dict(choice.options),
        "version": version,
        "run": identifier,
        "companions": list(companions),
        "values": dict(values),
        "environment": dict(environment),
    }
    _write(_path(directory, identifier, label), record)


def has_values(
    directory: Path, identifier: str, label: str, choice: Choice, version: int, companions: Sequence[str]
) -> bool:
    """Returns whether the values of a diagnostic of a run are stored, by this version, with these options and runs."""
    record = _read(_path(directory, identifier, label))
    made = record.get("version"), record.get("options"), record.get("companions", [])
    return made == (version, dict(choice.options), list(companions))


def read_values(directory: Path, identifier: str, label: str = "*") -> dict[str, float]:
    """Returns the stored values of a run, by name, of one diagnostic or of all, also those from a comparison of runs.

    Files that cannot be read are left out.
    """
    values: dict[str, float] = {}
    for path in sorted((directory / FOLDER / identifier).glob(_path(directory, identifier, label).name)):
        values |= _values(path)
    return values


def read_own(directory: Path, identifier: str, label: str) -> dict[str, float]:
    """Returns the values of a diagnostic that depend on its run alone; none if the file cannot be read."""
    return _read(_path(directory, identifier, label)).get("values", {})


def write_compared(directory: Path, identifier: str, label: str, values: Mapping[str, float]) -> None:
    """Adds values that came from a comparison with other runs to a stored diagnostic, in place of earlier ones.

    A file that has these already is not touched.

    Raises:
      UserError: the directory cannot be written to.
    """
    path = _path(directory, identifier, label)
    record = _read(path)
    if record.get("compared", {}) != values:
        _write(path, record | {"compared": dict(values)})


def write_csv(directory: Path, runs: Iterable[Run]) -> Path:
    """Writes all stored values of runs to DIR/diagnostics.csv, one a row, and returns its path.

    The columns are strategy, seed, diagnostic, name, value and run.

    Raises:
      UserError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("strategy", "seed", "diagnostic", "name", "value", "run"))
    for run in runs:
        for path in sorted((directory / FOLDER / run.id).glob("*.json")):
            for name, value in _values(path).items():
                writer.writerow((run.strategy, run.seed, path.stem, name, f"{value:.6g}", run.id))
    with files.explained(f"{directory / FOLDER}.csv cannot be written"):
        files.write_text(directory / f"{FOLDER}.csv", text.getvalue())
    return directory / f"{FOLDER}.csv"


def copy_values(source: Path, target: Path, identifier: str) -> None:
    """Copies missing values of a run to the directory of another study; raises UserError if that cannot be written."""
    files.copy_missing(source / FOLDER / identifier, target / FOLDER / identifier, "*.json")


def _path(directory: Path, identifier: str, label: str) -> Path:
    return directory / FOLDER / identifier / f"{label.replace(':', '-')}.json"


def _values(path: Path) -> dict[str, float]:
    record = _read(path)
    return record.get("values", {}) | record.get("compared", {})


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with files.explained(f"{path} cannot be written"):
        files.write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
