"""The measurements of one device, and the file that holds them."""

import dataclasses
import json
import math
import re
import statistics
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fusion_bench import files
from fusion_bench.errors import UserError

FORMAT = "fusion_bench speed 1"
"""The first entry of every file."""
Kind = Literal["train", "inference"]
KINDS: tuple[Kind, ...] = ("train", "inference")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Median and range of n repetitions of one measurement."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        return cls(float(statistics.median(values)), float(min(values)), float(max(values)), len(values))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Measurement of a strategy's training, or of its inference, in batches of one size.

    Attributes:
      flops: floating-point operations per example, from the compiler's analysis of one step; None if there is none.
      moved_bytes: bytes per example that the step's operations read and write, in memory or caches, from the same
        analysis; of the dataset only the batch counts.
      peak_bytes: memory of the compiled program: arguments (with the dataset), outputs and temporaries.
      temporary_bytes: memory of the temporaries.
      joules: energy per example at the fastest batch size; None at others, and if the device does not report it.
    """

    batch_size: int
    examples_per_s: Summary
    flops: float | None
    moved_bytes: float | None
    peak_bytes: int | None
    temporary_bytes: int | None
    joules: Summary | None = None


@dataclasses.dataclass(frozen=True)
class Latency:
    """Seconds from request to logits of one example: percentiles of n requests, one after another."""

    p50: float
    p95: float
    p99: float
    n: int


@dataclasses.dataclass(frozen=True)
class StrategySpeed:
    """All measurements of one strategy.

    Attributes:
      params: number of trained parameters.
      compile_s: seconds to compile initialisation, training and inference, one repetition per batch size.
      train: by batch size, ascending; empty for post-hoc strategies.
      inference: by batch size, ascending.
      latency_s: at batch 1.
    """

    strategy: str
    family: str
    params: int
    compile_s: Summary
    train: tuple[Measurement, ...]
    inference: tuple[Measurement, ...]
    latency_s: Latency

    def points(self, kind: Kind) -> tuple[Measurement, ...]:
        return self.train if kind == "train" else self.inference


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Ceilings of the device, measured between the strategies.

    Attributes:
      matmul_size: n of the n × n matrices whose product was fastest.
      flops_per_s: of that product, in the dtype that the strategies compute in.
      array_bytes: size of the array that is read and written.
      bytes_per_s: read and written together.
    """

    matmul_size: int
    flops_per_s: Summary
    array_bytes: int
    bytes_per_s: Summary


@dataclasses.dataclass(frozen=True)
class DeviceSpeed:
    """All measurements of one device.

    Attributes:
      environment: as with every run: device, versions, commit, command.
      study: description: dataset, fingerprint, encoder, text_encoder, dtype, repetitions and others.
      allocator_peak_bytes: peak memory of all strategies together; None if the device does not report it.
      left_out: one line for each batch size that did not fit the device.
    """

    environment: dict[str, Any]
    study: dict[str, Any]
    ceilings: Ceilings
    allocator_peak_bytes: int | None
    strategies: tuple[StrategySpeed, ...]
    left_out: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        return str(self.environment["device"])


def file_name(device: str) -> str:
    """Returns the name of the file for a device: small letters, digits and hyphens."""
    return (re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") or "device") + ".json"


def write(path: Path, speed: DeviceSpeed, derived: dict[str, Any]) -> None:
    """Writes a device's measurements, whole or not at all; `derived` is for scripts and is not read back.

    Raises:
      UserError: it cannot be written.
    """
    record = {"format": FORMAT, **dataclasses.asdict(speed), "derived": derived}
    with files.explained(f"{path} cannot be written"):
        files.write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path) -> DeviceSpeed:
    """Reads the file of a device.

    Raises:
      UserError: the file is missing, of another kind, or damaged.
    """
    try:
        with files.explained(f"{path} cannot be read"):
            record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict) or not str(record.get("format")).startswith("fusion_bench speed "):
        raise UserError(f"{path} is no file of `fusion-bench speed`")
    if record["format"] != FORMAT:
        raise UserError(f"{path} is of the format {record['format']!r}; this version reads {FORMAT!r}")
    try:
        speed: DeviceSpeed = _decode(DeviceSpeed, record, "")
        _decode(str, speed.environment.get("device"), "environment.device")
        for name in ("fingerprint", "encoder", "text_encoder"):
            _decode(str, speed.study.get(name), f"study.{name}")
        for row in speed.strategies:
            if not row.inference:
                raise ValueError(f"{row.strategy} has no inference")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return speed


def _decode(kind: Any, value: Any, where: str) -> Any:
    """Converts a value from JSON to a dataclass, a tuple, a dict, an optional, a number from 0, or text."""
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _decode(arguments[0], value, where)
    if value is None:
        raise ValueError(f"{where} is missing")
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], part, f"{where}[{place}]") for place, part in enumerate(value))
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints, inside = typing.get_type_hints(kind), f"{where}." if where else ""
        made: Any = origin(**{n: _decode(hints[n], value.get(n), inside + n) for n in hints})
        if isinstance(made, Summary) and not 0 < made.low <= made.median <= made.high:
            raise ValueError(f"{where} is {made.low}, {made.median}, {made.high}: not a spread")
        return made
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    if (is_number and origin is float) or (type(value) is origin and (is_number or origin is not int)):
        return value
    raise ValueError(f"{where} is {value!r:.40}")
