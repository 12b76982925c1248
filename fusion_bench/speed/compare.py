"""Comparison of devices: the speed of every strategy on each device relative to a reference device."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fusion_bench.errors import UserError
from fusion_bench.report.listing import Listing
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import Axis, Line, Panel, Picture, Points, log_axis
from fusion_bench.report.text import optional
from fusion_bench.speed.record import DeviceSpeed, Measurement, StrategySpeed
from fusion_bench.speed.roofline import fastest

SAME = ("fingerprint", "encoder", "text_encoder")
"""Facts that two files must share to be comparable."""
STATED = {
    "dtype": "Computed in", "batch_sizes": "Batches tried", "jax": "Versions of jax", "commit": "Commits",
}  # fmt: skip
"""Facts that a note states where they differ."""
FILLS = {
    "full": "whole", "none": "not at all", "left": "left half", "top": "top half", "right": "right half",
    "bottom": "bottom half",
}  # fmt: skip
"""Fill of the markers of each device in a figure, and its description."""


def _rate(points: Sequence[Measurement]) -> float:
    return fastest(points).examples_per_s.median if points else math.nan


QUANTITIES: Mapping[str, Callable[[StrategySpeed], float]] = {
    "train": lambda row: _rate(row.train),
    "inference": lambda row: _rate(row.inference),
    "latency": lambda row: 1 / row.latency_s.p50,
}
"""Rates: training and inference at the best batch size, examples/s; one example at a time, 1/s."""


def named(files: Sequence[tuple[Path, DeviceSpeed]]) -> dict[str, DeviceSpeed]:
    """Returns the devices by name, or by the name of their file if two devices have the same name."""
    names = [speed.device for _, speed in files]
    keys = [name if names.count(name) == 1 else path.stem for name, (path, _) in zip(names, files, strict=True)]
    if len(set(keys)) < len(keys):
        raise UserError("two files have the same device and the same name; rename one")
    return {key: speed for key, (_, speed) in zip(keys, files, strict=True)}


def compare(devices: Mapping[str, DeviceSpeed], reference: str) -> pd.DataFrame:
    """Returns a row for each device, strategy and quantity: the rate, and its ratio to the reference's.

    Raises:
      UserError: the files differ in data or encoders, or share no strategy.
    """
    base, rows = devices[reference], []
    of_base = {row.strategy: row for row in base.strategies}
    for name, speed in devices.items():
        study, environment = speed.study, speed.environment
        jax, batch_sizes = environment["packages"]["jax"], ", ".join(map(str, study["batch_sizes"]))
        facts = {"dtype": study["dtype"], "batch_sizes": batch_sizes, "jax": jax, "commit": environment["commit"]}
        for key in SAME:
            own, other = study[key], base.study[key]
            if own != other:
                word = key.replace("_", " ")
                raise UserError(
                    f"{name} and {reference} differ in {word}: {own} and {other}; measure both with the same"
                )
        for row in (row for row in speed.strategies if row.strategy in of_base):
            for quantity, rate in QUANTITIES.items():
                own, other = rate(row), rate(of_base[row.strategy])
                if not math.isnan(own / other):
                    labels = {"device": name, "strategy": row.strategy, "family": row.family, "quantity": quantity}
                    rows.append(labels | {"rate": own, "ratio": own / other} | facts)
    if len({row["device"] for row in rows}) < len(devices):
        raise UserError(f"no strategy of {reference} is in every other file")
    return pd.DataFrame(rows)


def listing(frame: pd.DataFrame, reference: str) -> Listing:
    """Returns the ratios to the reference, with their geometric mean over the strategies."""
    marks = {name: chr(ord("A") + number) for number, name in enumerate(_others(frame, reference))}
    columns = [(device, quantity) for device in marks for quantity in QUANTITIES]
    families = dict(zip(frame["strategy"], frame["family"], strict=True)) | {"geometric mean": ""}
    ratios = frame.pivot(index="strategy", columns=["device", "quantity"], values="ratio")[columns]
    ratios.loc["geometric mean"] = np.exp(np.log(ratios).mean())
    rows = [(n, family, *(optional(ratio, ".2f") for ratio in ratios.loc[n])) for n, family in families.items()]
    notes = [
        f"{'; '.join(f'{mark}: {name}' for name, mark in marks.items())}.",
        f"Times as fast as {reference}: training and inference at the best batch size of each, latency at batch 1.",
        "Medians; the spread of each rate is in its device's file.",
    ]
    for key, words in STATED.items():
        values = dict(zip(frame["device"], frame[key], strict=True))
        if len(set(values.values())) > 1:
            notes.append(f"{words}: {'; '.join(f'{name} {value}' for name, value in values.items())}.")
    header = ["strategy", "family", *(f"{marks[device]}:\n{quantity}" for device, quantity in columns)]
    return Listing(f"Speed against {reference}", header, rows, notes, "ll" + "r" * len(columns), is_whole=True)


def _others(frame: pd.DataFrame, reference: str) -> list[str]:
    return [str(name) for name in dict.fromkeys(frame["device"]) if name != reference]


def picture(frame: pd.DataFrame, reference: str) -> Picture:
    """Returns the ratios of every strategy, one panel per quantity.

    Raises:
      UserError: there are more devices than fills of markers.
    """
    devices = _others(frame, reference)
    if len(devices) > len(FILLS):
        raise UserError(f"a figure shows up to {len(FILLS)} devices beside the reference; there are {len(devices)}")
    fills = dict(zip(devices, FILLS, strict=False))
    names = tuple(dict.fromkeys(frame["strategy"]))
    panels = {}
    for quantity in QUANTITIES:
        rows = [row for row in frame.to_dict("records") if row["quantity"] == quantity]
        low, high = min(row["ratio"] for row in rows) / 1.3, 1.3 * max(row["ratio"] for row in rows)
        x = log_axis("times as fast", low, high) if high > 8 * low else Axis("times as fast", (0.0, high))
        marks = [
            Points([row["ratio"]], [names.index(row["strategy"])], row["family"], fill=fills[row["device"]])
            for row in rows
            if row["device"] != reference
        ]
        unity = Line((1.0, 1.0), (-0.5, len(names) - 0.5), colour=PALE)
        panels[quantity] = Panel([unity, *marks], x, Axis(names=names))
    legend = "; ".join(f"{name}, filled {FILLS[fill]}" for name, fill in fills.items())
    return Picture(
        "ratios", f"Speed against {reference}",
        f"Ratio to {reference}. Markers: {legend}. Training and inference at the best batch size of each.",
        panels, size=(2.3, 0.7 + 0.2 * len(names)), columns=len(panels), has_key=False,
    )  # fmt: skip
