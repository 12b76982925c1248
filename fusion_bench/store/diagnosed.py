"""Values of diagnostics, stored beside the runs: DIR/diagnostics/RUN_ID/NAME.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_bench import files
from fusion_bench.config import Choice

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
