"""`fusion-bench speed`: measures this device, or compares devices, and prints a table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fusion_bench.errors import UserError
from fusion_bench.speed.config import SpeedConfig

if TYPE_CHECKING:
    import pandas as pd

    from fusion_bench.report.listing import Listing
    from fusion_bench.report.plots.marks import Picture


def run(config: SpeedConfig, console: Console) -> int:
    """Returns the exit status."""
    (_compare if config.compare else _measure)(config, console)
    return 0


def _measure(config: SpeedConfig, console: Console) -> None:
    from fusion_bench.speed import device, record
    from fusion_bench.speed.measure import measure
    from fusion_bench.speed.roofline import derive

    with Console(stderr=True).status("") as status:
        speed = measure(config, lambda text: status.update(f"{text} …"))
    path = config.out or Path("speed") / record.file_name(speed.device)
    record.write(path, speed, derive(speed))
    _print(device.listing(speed), device.frame(speed), config, console)
    if config.figure:
        _draw(device.roofline(speed), config.figure)
    print(f"written to {path}", file=sys.stderr)


def _compare(config: SpeedConfig, console: Console) -> None:
    from fusion_bench.speed import compare, record

    first = () if config.reference is None else (config.reference,)
    paths: list[Path] = list(dict.fromkeys((*first, *config.compare)))
    if len(paths) < 2:
        raise UserError("--compare takes two files or more")
    devices = compare.named([(path, record.read(path)) for path in paths])
    reference = next(iter(devices))
    frame = compare.compare(devices, reference)
    _print(compare.listing(frame, reference), frame, config, console)
    if config.figure:
        _draw(compare.picture(frame, reference), config.figure)


def _draw(picture: "Picture", path: Path) -> None:
    from fusion_bench.report.plots import matplotlib

    matplotlib.write(picture, path)


def _print(listing: "Listing", frame: "pd.DataFrame", config: SpeedConfig, console: Console) -> None:
    if config.format == "terminal":
        console.print(listing)
    elif config.format == "csv":
        print(frame.to_csv(index=False), end="")
    else:
        print(listing.to_markdown() if config.format == "md" else listing.to_latex(), end="")
