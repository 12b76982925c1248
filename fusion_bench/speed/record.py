"""The figures of one device, and the file that holds them."""

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
    """A strategy's training, or its inference, in batches of one size.

    Attributes:
      flops: floating-point operations per example, from the compiler's analysis of one step; None if it gives none.
      moved_bytes: per example, read and written by the step's operations, from the same analysis: memory and caches. Of
        the stored examples it has those of the batch alone.
      peak_bytes: memory of the compiled program: arguments, outputs and temporaries; the data set is an argument.
      temporary_bytes: the temporaries alone.
      joules: energy per example; None where the device does not report it, and but for the fastest batch size.
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
    """Seconds from asking for one example's logits to having them: percentiles of n requests, one after another."""

    p50: float
    p95: float
    p99: float
    n: int


@dataclasses.dataclass(frozen=True)
class StrategySpeed:
    """One strategy's figures.

    Attributes:
      params: number of trained parameters.
      compile_s: seconds to compile initialisation, training and inference, one repetition a batch size.
      train: by batch size, ascending; empty where nothing is trained, after the fact.
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
    """All figures of one device.

    Attributes:
      environment: as with every run: device, versions, commit, command.
      study: what was measured: dataset, fingerprint, encoder, text_encoder, dtype, repetitions and others.
      allocator_peak_bytes: the most that was in use until all strategies were compiled and had run, of all of them
        together; None where the device does not report it.
      left_out: a line for each batch size that did not fit the device.
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
    """Writes a device's figures, whole or not at all; `derived` follows from them, for scripts, and is not read back.

    Raises:
      UserError: it cannot be written.
    """
    record = {"format": FORMAT, **dataclasses.asdict(speed), "derived": derived}
    try:
        files.write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def read(path: Path) -> DeviceSpeed:
    """Reads what `write` wrote.

    Raises:
      UserError: the file is not there, is of another kind, or is damaged.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
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
    """Returns JSON's value as a type: a dataclass, a tuple, a dict, an optional, a number from 0, or text."""
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
