"""`fusion-bench speed`: measures this device, or compares devices, and prints a table."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from fusion_bench.errors import UserError
from fusion_bench.speed.config import SpeedConfig

if TYPE_CHECKING:
    import pandas as pd

    from fusion_bench.report.listing import Listing
    from fusion_bench.report.plots.marks import Picture

    Figures = tuple[Listing, pd.DataFrame, Callable[[], Picture]]


def run(config: SpeedConfig, console: Console) -> int:
    """Returns the exit status."""
    listing, frame, draw = _compare(config) if config.compare else _measure(config)
    if config.format == "terminal":
        console.print(listing)
    elif config.format == "csv":
        print(frame.to_csv(index=False), end="")
    else:
        print({"latex": listing.to_latex, "md": listing.to_markdown}[config.format](), end="")
    if config.figure:
        from fusion_bench.report.plots import matplotlib

        matplotlib.write(draw(), config.figure)
    return 0


def _measure(config: SpeedConfig) -> "Figures":
    from fusion_bench.training import backend

    backend.start()
    from fusion_bench.speed import device, record
    from fusion_bench.speed.measure import measure
    from fusion_bench.speed.roofline import derive

    with Console(stderr=True).status("") as status:
        speed = measure(config, lambda text: status.update(Text(f"{text} …")))
    path = config.out or Path("speed") / record.file_name(speed.device)
    record.write(path, speed, derive(speed))
    print(f"written to {path}", file=sys.stderr)
    return device.listing(speed), device.frame(speed), functools.partial(device.roofline, speed)


def _compare(config: SpeedConfig) -> "Figures":
    from fusion_bench.speed import compare, record

    first = () if config.reference is None else (config.reference,)
    paths = list(dict.fromkeys((*first, *config.compare)))
    if len(paths) < 2:
        raise UserError("--compare takes two files or more")
    devices = compare.named([(path, record.read(path)) for path in paths])
    reference = next(iter(devices))
    frame = compare.compare(devices, reference)
    return compare.listing(frame, reference), frame, functools.partial(compare.picture, frame, reference)
