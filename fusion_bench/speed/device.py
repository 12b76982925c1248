"""The measurements of one device as a table, as CSV, and as a roofline."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fusion_bench.report.listing import Listing
from fusion_bench.report.palette import PALE
from fusion_bench.report.plots.marks import Line, Names, Panel, Picture, Points, log_axis
from fusion_bench.report.text import MISSING, count, optional
from fusion_bench.speed.record import KINDS, Ceilings, DeviceSpeed, Measurement, StrategySpeed
from fusion_bench.speed.roofline import NEAR_BEST, OVERHEAD, fastest, is_open, knee, place

WORDS = {"train": "training", "inference": "inference"}


def listing(speed: DeviceSpeed) -> Listing:
    """Returns a row for each strategy, at the knee of its sweep."""
    rows, notes = [_cells(row, speed.ceilings) for row in speed.strategies], _notes(speed)
    if any(point.joules for row in speed.strategies for kind in KINDS for point in row.points(kind)):
        for cells, row in zip(rows, speed.strategies, strict=True):
            joules = fastest(row.train).joules if row.train else None
            cells["train\nmJ"] = optional(joules and 1000 * joules.median)
        notes += ("Train mJ: energy of the whole device per example, at the batch size with the highest rate.",)
    header = [title.rstrip() for title in rows[0]]
    texts = [tuple(cells.values()) for cells in rows]
    return Listing(
        _heading(speed), header, texts, notes, "ll" + "r" * (len(header) - 2), expendable=(1, 11, 10, 9, 7, 5)
    )


def _cells(row: StrategySpeed, ceilings: Ceilings) -> dict[str, str]:
    at = place(knee(row.train), ceilings) if row.train else None
    work, latency = knee(row.train or row.inference), row.latency_s
    return {
        "strategy": row.strategy,
        "family": row.family,
        "train\nex./s": count(knee(row.train).examples_per_s.median) if row.train else MISSING,
        "at\nbatch": _knee(row.train),
        "bound": at.bound if at else MISSING,
        "% of\nit": optional(at and 100 * at.share, ".0f"),
        "test\nex./s": count(knee(row.inference).examples_per_s.median),
        "at\nbatch ": _knee(row.inference),
        **{f"{name}\nms": f"{1000 * getattr(latency, name):.3g}" for name in ("p50", "p95", "p99")},
        "train\nMFLOP": optional(work.flops and work.flops / 1e6),
        "train\nMB": optional(work.temporary_bytes and work.temporary_bytes / 1e6),
        "compile\ns": f"{row.compile_s.median:.1f}",
    }


def _knee(points: Sequence[Measurement]) -> str:
    return f"{'≥ ' if is_open(points) else ''}{knee(points).batch_size}" if points else MISSING


def _heading(speed: DeviceSpeed) -> str:
    study = speed.study
    work = f"{study['dataset']}, {study['encoder']} encoders, {study['dtype']}"
    return f"{speed.device}: {work}, n = {study['repetitions']} repetitions"


def _notes(speed: DeviceSpeed) -> tuple[str, ...]:
    ceilings, environment = speed.ceilings, speed.environment
    peak = speed.allocator_peak_bytes
    return (
        f"Ceilings of this device, measured between the strategies: {ceilings.flops_per_s.median / 1e9:,.0f} GFLOP/s "
        f"(products of {ceilings.matmul_size} × {ceilings.matmul_size}) and {ceilings.bytes_per_s.median / 1e9:,.1f} "
        f"GB/s (an array of {ceilings.array_bytes / 1e6:.0f} MB, read and written).",
        f"Examples/s: median at the knee, the smallest batch size with {100 * NEAR_BEST:.0f} % of the highest rate, of "
        f"{', '.join(map(str, speed.study['batch_sizes']))}; ≥ marks the largest of them.",
        "Bound: the nearer ceiling of training, and the fraction of it that training reaches; overhead if both are "
        f"below {100 * OVERHEAD:.0f} %. Bytes are all that operations exchange, including those served by caches.",
        "p50, p95, p99: latency of one example, from request to logits, with constant weights in the program; "
        f"n = {min(row.latency_s.n for row in speed.strategies):,} requests or more.",
        "MFLOP per example and MB of temporaries are those of training at its knee, or of prediction if nothing is "
        "trained. Compile s: initialisation, training and prediction together, without a cache.",
        *([f"Peak of the allocator, all strategies and the data together: {peak / 1e6:,.0f} MB."] if peak else []),
        *(f"Left out: {line}." for line in speed.left_out),
        f"fusion_bench {environment['version']}, jax {environment['packages']['jax']}, commit {environment['commit']}.",
    )


def frame(speed: DeviceSpeed) -> pd.DataFrame:
    """Returns all measurements, unrounded: one row per strategy, kind and batch size."""
    rows = []
    for row in speed.strategies:
        for kind in KINDS:
            for point in row.points(kind):
                found = place(point, speed.ceilings)
                rows.append(
                    {
                        "device": speed.device, "strategy": row.strategy, "family": row.family, "params": row.params,
                        "kind": kind, "batch_size": point.batch_size,
                        "is_knee": point.batch_size == knee(row.points(kind)).batch_size,
                        **{f"examples_per_s_{k}": v for k, v in dataclasses.asdict(point.examples_per_s).items()},
                        "flops": point.flops, "moved_bytes": point.moved_bytes, "peak_bytes": point.peak_bytes,
                        "temporary_bytes": point.temporary_bytes,
                        "joules": point.joules.median if point.joules else None,
                        **({} if found is None else dataclasses.asdict(found)),
                        "compile_s": row.compile_s.median,
                        **{f"latency_{k}_s": getattr(row.latency_s, k) for k in ("p50", "p95", "p99")},
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def roofline(speed: DeviceSpeed) -> Picture:
    """Returns every strategy at its knee below the two ceilings, one panel each for training and inference."""
    flops, memory = (rate.median for rate in (speed.ceilings.flops_per_s, speed.ceilings.bytes_per_s))
    found = [
        (kind, row, at)
        for kind in KINDS
        for row in speed.strategies
        if row.points(kind) and (at := place(knee(row.points(kind)), speed.ceilings))
    ]
    intensities = [flops / memory, *(at.intensity for *_, at in found)]
    xs = np.geomspace(min(intensities) / 3, 3 * max(intensities), 50)
    roof = np.minimum(flops, xs * memory) / 1e9
    bottom = min([float(roof[0]), *(at.flops_per_s / 1e9 for *_, at in found)]) / 1.5
    x = log_axis("intensity, FLOP a byte", float(xs[0]), float(xs[-1]))
    y = log_axis("GFLOP/s", bottom, 1.5 * float(roof[-1]))
    panels = {}
    for kind in KINDS:
        shown = [(row, at.intensity, at.flops_per_s / 1e9) for k, row, at in found if k == kind]
        names = Names([x for _, x, _ in shown], [y for *_, y in shown], [row.strategy for row, *_ in shown])
        points = [Points([x], [y], row.family, label=row.family) for row, x, y in shown]
        panels[WORDS[kind]] = Panel([*points, names], x, y)
    caption = f"{_heading(speed)}; medians, each at the knee of its sweep. {_notes(speed)[0]}"
    ceilings = Line(xs, roof, "ceilings", PALE)
    return Picture("roofline", "Roofline", caption, panels, [ceilings], size=(3.45, 3.2))
