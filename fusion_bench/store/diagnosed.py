"""Values of diagnostics, stored beside the runs: DIR/diagnostics/RUN_ID/NAME.json, and all of them as a CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
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
    values: Mapping[str, float],
    environment: Mapping[str, Any],
) -> None:
    """Stores the values of a diagnostic of a run, replacing those of another version.

    The file is named by the label, which has the options that differ from their defaults; `choice` has all options.

    Raises:
      UserError: the directory cannot be written to.
    """
    record = {
        "diagnostic": choice.name,
        "options": dict(choice.options),
        "version": version,
        "run": identifier,
        "values": dict(values),
        "environment": dict(environment),
    }
    path = _path(directory, identifier, label)
    with files.explained(f"{path} cannot be written"):
        files.write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def has_values(directory: Path, identifier: str, label: str, choice: Choice, version: int) -> bool:
    """Returns whether the values of a diagnostic of a run are stored, by this version and with these options."""
    record = _read(_path(directory, identifier, label))
    return (record.get("version"), record.get("options")) == (version, dict(choice.options))


def read_values(directory: Path, identifier: str) -> dict[str, float]:
    """Returns all stored values of a run, by name; files that cannot be read are left out."""
    values: dict[str, float] = {}
    for path in sorted((directory / FOLDER / identifier).glob("*.json")):
        values |= _read(path).get("values", {})
    return values


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
            for name, value in _read(path).get("values", {}).items():
                writer.writerow((run.strategy, run.seed, path.stem, name, f"{value:.6g}", run.id))
    with files.explained(f"{directory / FOLDER}.csv cannot be written"):
        files.write_text(directory / f"{FOLDER}.csv", text.getvalue())
    return directory / f"{FOLDER}.csv"


def copy_values(source: Path, target: Path, identifier: str) -> None:
    """Copies missing values of a run to the directory of another study; raises UserError if that cannot be written."""
    files.copy_missing(source / FOLDER / identifier, target / FOLDER / identifier, "*.json")


def _path(directory: Path, identifier: str, label: str) -> Path:
    return directory / FOLDER / identifier / f"{label.replace(':', '-')}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
