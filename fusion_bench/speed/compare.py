"""Devices against each other: how many times as fast as a reference each one is, strategy by strategy."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from fusion_bench.errors import UserError
from fusion_bench.report.palette import LOOKS
from fusion_bench.speed.listing import Listing
from fusion_bench.speed.record import DeviceSpeed, StrategySpeed
from fusion_bench.speed.roofline import fastest

SAME = ("fingerprint", "encoder", "text_encoder")
"""What two files must share for their figures to be of the same work."""
TOLD = {
    "dtype": "Computed in", "batch_sizes": "Batches tried", "jax": "Versions of jax", "commit": "Commits",
}  # fmt: skip
"""What a note tells where it differs."""
FILLS = ("full", "none", "left", "top", "right", "bottom")
"""How the markers of one device after another are filled, in a figure."""


def _rate(kind: str) -> Callable[[StrategySpeed], float | None]:
    def of(row: StrategySpeed) -> float | None:
        points = row.train if kind == "train" else row.inference
        return fastest(points).examples_per_s.median if points else None

    return of


QUANTITIES: Mapping[str, Callable[[StrategySpeed], float | None]] = {
    "train": _rate("train"),
    "inference": _rate("inference"),
    "latency": lambda row: 1 / row.latency_s.p50,
}
"""Rates: training and inference at the best batch size, examples/s; one example at a time, 1/s."""


def named(files: Sequence[tuple[Path, DeviceSpeed]]) -> dict[str, DeviceSpeed]:
    """Returns the devices by name; by the name of their file where two have the same."""
    names = [speed.device for _, speed in files]
    keys = [
        name if names.count(name) == 1 else path.stem for name, (path, _) in zip(names, files, strict=True)
    ]
    if len(set(keys)) < len(keys):
        raise UserError("two files have the same device and the same name; rename one")
    return {key: speed for key, (_, speed) in zip(keys, files, strict=True)}


def compare(devices: Mapping[str, DeviceSpeed], reference: str) -> pd.DataFrame:
    """Returns a row for each device, strategy and quantity: the rate, and its ratio to the reference's.

    Raises:
      UserError: the files are of different work, or share no strategy.
    """
    base = devices[reference]
    for name, speed in devices.items():
        for key in SAME:
            if speed.study[key] != base.study[key]:
                raise UserError(
                    f"{name} and {reference} differ in {key.replace('_', ' ')}: {speed.study[key]} and "
                    f"{base.study[key]}; measure both with the same"
                )
    of_base = {row.strategy: row for row in base.strategies}
    rows = []
    for name, speed in devices.items():
        for row in speed.strategies:
            for quantity, rate in QUANTITIES.items():
                own = rate(row)
                other = rate(of_base[row.strategy]) if row.strategy in of_base else None
                if own is not None and other is not None:
                    rows.append(
                        {
                            "device": name, "strategy": row.strategy, "family": row.family, "quantity": quantity,
                            "rate": own, "ratio": own / other, **_conditions(speed),
                        }
                    )  # fmt: skip
    if len({row["device"] for row in rows}) < len(devices):
        raise UserError(f"no strategy of {reference} is in every other file")
    return pd.DataFrame(rows)


def listing(frame: pd.DataFrame, reference: str) -> Listing:
    """Returns the accelerator table: ratios to the reference, and the geometric mean over the strategies."""
    devices = [name for name in dict.fromkeys(frame["device"]) if name != reference]
    marks = {name: chr(ord("A") + number) for number, name in enumerate(devices)}
    ratios = {
        (row["device"], row["strategy"], row["quantity"]): row["ratio"] for row in frame.to_dict("records")
    }
    header = ["strategy", "family", *(f"{mark}: {q}" for mark in marks.values() for q in QUANTITIES)]
    strategies = dict(zip(frame["strategy"], frame["family"], strict=True))
    rows = [
        (strategy, family, *(_cell(ratios.get((d, strategy, q))) for d in devices for q in QUANTITIES))
        for strategy, family in strategies.items()
    ]
    means = [
        _mean([r for (n, _, k), r in ratios.items() if (n, k) == (d, q)]) for d in devices for q in QUANTITIES
    ]
    notes = (
        f"{'; '.join(f'{mark}: {name}' for name, mark in marks.items())}.",
        f"Times as fast as {reference}: training and inference at the best batch size of each, latency at batch 1.",
        "Medians; the spread of each rate is in its device's file.",
        *(_differing(frame, column, told) for column, told in TOLD.items() if len(set(frame[column])) > 1),
    )
    rows.append(("geometric mean", "", *map(_cell, means)))
    return Listing(f"Speed against {reference}", tuple(header), tuple(rows), notes)


def _conditions(speed: DeviceSpeed) -> dict[str, str]:
    """Returns what may differ between two files, but is then told."""
    environment = speed.environment
    return {
        "dtype": speed.study["dtype"],
        "batch_sizes": ", ".join(map(str, speed.study["batch_sizes"])),
        "jax": environment["packages"]["jax"],
        "commit": environment["commit"],
    }


def _differing(frame: pd.DataFrame, column: str, told: str) -> str:
    values = dict(zip(frame["device"], frame[column], strict=True))
    return f"{told}: " + "; ".join(f"{name} {value}" for name, value in values.items()) + "."


def _cell(ratio: float | None) -> str:
    return "–" if ratio is None or math.isnan(ratio) else f"{ratio:.2f}"


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


_WHERE = {"full": "whole", "none": "not at all"} | {
    side: f"{side} half" for side in ("left", "top", "right", "bottom")
}


def draw(frame: pd.DataFrame, reference: str, path: Path) -> None:
    """Draws the ratios of every strategy, a panel for each quantity, as PATH.svg and PATH.png.

    Raises:
      UserError: there are more devices than it can tell apart.
    """
    import matplotlib as mpl
    from matplotlib.ticker import LogLocator

    from fusion_bench.report.figures.canvas import INK, PAGE, PALE, STYLE, annotate, canvas, save

    strategies = list(dict.fromkeys(frame["strategy"]))
    devices = [name for name in dict.fromkeys(frame["device"]) if name != reference]
    if len(devices) > len(FILLS):
        raise UserError(
            f"a figure tells {len(FILLS)} devices apart beside the reference; there are {len(devices)}"
        )
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = canvas(PAGE, 1.2 + 0.2 * len(strategies))
        panels = figure.subplots(1, len(QUANTITIES), sharey=True)
        for axes, quantity in zip(panels, QUANTITIES, strict=True):
            axes.axvline(1, color=PALE, linewidth=0.8, zorder=1)
            for row in frame.to_dict("records"):
                if row["quantity"] == quantity and row["device"] != reference:
                    look = LOOKS[row["family"]]
                    axes.plot(
                        row["ratio"], strategies.index(row["strategy"]), look.marker, markersize=5,
                        fillstyle=FILLS[devices.index(row["device"])], color=look.colour,
                        markerfacecoloralt="white", markeredgecolor=INK, markeredgewidth=0.5,
                    )  # fmt: skip
            axes.set(title=quantity, xlabel="times as fast")
            shown = frame.loc[frame["quantity"] == quantity, "ratio"]
            if shown.max() > 8 * shown.min():
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.xaxis.set_minor_formatter(lambda value, _: "")
            else:
                axes.set_xlim(0, 1.1 * shown.max())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[0].set_yticks(range(len(strategies)), strategies)
        panels[0].invert_yaxis()
        fills = dict(zip(devices, FILLS, strict=False))
        told = "Markers: " + "; ".join(f"{name}, filled {_WHERE[fill]}" for name, fill in fills.items())
        annotate(
            figure, f"Ratio to {reference}. {told}. Training and inference at the best batch size of each."
        )
        save(figure, path)
