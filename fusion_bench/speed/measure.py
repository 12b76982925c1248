"""Measurement of every strategy on the default device: all are compiled first, then timed in turn."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fusion_bench.config import MeasurementConfig, TrainingConfig
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset, resolved
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec, resolve
from fusion_bench.models.encoders import compute_dtype
from fusion_bench.speed import ceilings
from fusion_bench.speed.compiled import Compiled, compile_all
from fusion_bench.speed.config import SpeedConfig
from fusion_bench.speed.energy import open_meter
from fusion_bench.speed.interleave import Report, interleaved
from fusion_bench.speed.record import KINDS, Ceilings, DeviceSpeed, Kind, Latency, Measurement, StrategySpeed, Summary
from fusion_bench.study.provenance import describe_environment
from fusion_bench.training.compile_cache import without_cache
from fusion_bench.training.timing import TimedLoop

ENERGY_SECONDS = 1.0
"""Length of a pass whose energy is read, long against the update interval of the counter."""


def measure(config: SpeedConfig, report: Report) -> DeviceSpeed:
    """Returns the measurements of the default device; `report` is called with the present activity.

    Raises:
      UserError: the configuration or the data cannot be used, or a strategy does not fit the device.
    """
    dataset = load_dataset(config.data)
    if len(dataset.modalities) < 2:
        raise UserError(f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two")
    specs = resolve(config.strategies, dataset.task)
    sizes = config.sizes(len(dataset.splits["train"]))
    with without_cache():
        compiled = compile_all(config, specs, sizes, dataset, report)
        allocated = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        dtype = compute_dtype(config.model)
        report("the device's ceilings")
        matmul, matmul_size = ceilings.fastest_matmul(dtype)
        array = ceilings.array_pass()
    timed: dict[Hashable, TimedLoop] = {"matmul": matmul, "array": array, **compiled.timed}
    turns = {case: _turn(loop, functools.partial(_rate, loop)) for case, loop in timed.items()}
    turns |= {strategy: _turn(loop, loop.latencies) for strategy, loop in compiled.one.items()}
    samples = interleaved(turns, config.repetitions, report)
    meter = open_meter(jax.devices()[0])
    joules = _measure_energy(compiled, samples, meter, config.repetitions, report) if meter else {}
    return DeviceSpeed(
        environment=describe_environment(),
        study=_describe(config, dataset, str(np.dtype(dtype)), sizes),
        ceilings=Ceilings(
            matmul_size, Summary.of(samples["matmul"]), ceilings.ARRAY_BYTES, Summary.of(samples["array"])
        ),
        allocator_peak_bytes=allocated,
        strategies=tuple(_strategy_speed(spec, compiled, samples, joules) for spec in specs),
        left_out=tuple(compiled.left_out),
    )


def _turn(timed: TimedLoop, sample: Callable[[], Sequence[float]]) -> Callable[[], Sequence[float]]:
    """Returns a function that takes samples after one step, which refills the caches."""

    def measure() -> Sequence[float]:
        timed.steps(1)
        return sample()

    return measure


def _rate(timed: TimedLoop) -> list[float]:
    return [timed.rate()]


def _measure_energy(
    compiled: Compiled,
    samples: Mapping[Hashable, Sequence[float]],
    meter: Callable[[], float],
    repetitions: int,
    report: Report,
) -> dict[Hashable, list[float]]:
    """Returns the joules per example of each strategy's fastest training and inference."""

    def joules(timed: TimedLoop, count: int) -> list[float]:
        before = meter()
        timed.steps(count)
        return [(meter() - before) / (count * timed.work)]

    turns = {}
    for strategy in compiled.params:
        for kind in KINDS:
            rates = {case: statistics.median(samples[case]) for case in compiled.of(strategy, kind)}
            if rates:
                case = max(rates, key=lambda case: rates[case])
                timed = compiled.timed[case]
                count = max(1, round(ENERGY_SECONDS * rates[case] / timed.work))
                turns[case] = _turn(timed, functools.partial(joules, timed, count))
    report("energy")
    return interleaved(turns, repetitions, report)


def _strategy_speed(
    spec: StrategySpec,
    compiled: Compiled,
    samples: Mapping[Hashable, Sequence[float]],
    joules: Mapping[Hashable, Sequence[float]],
) -> StrategySpeed:
    def points(kind: Kind) -> tuple[Measurement, ...]:
        found = []
        for case in sorted(compiled.of(spec.label, kind), key=lambda case: case.batch_size):
            rate, energy = Summary.of(samples[case]), Summary.of(joules[case]) if case in joules else None
            found.append(Measurement(case.batch_size, rate, *compiled.costs[case], energy))
        return tuple(found)

    seconds = samples[spec.label]
    p50, p95, p99 = (float(np.percentile(seconds, percent)) for percent in (50, 95, 99))
    return StrategySpeed(
        strategy=spec.label,
        family=spec.registration.family,
        params=compiled.params[spec.label],
        compile_s=Summary.of(compiled.seconds[spec.label]),
        train=points("train"),
        inference=points("inference"),
        latency_s=Latency(p50, p95, p99, len(seconds)),
    )


def _describe(config: SpeedConfig, dataset: Dataset, dtype: str, sizes: Sequence[int]) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "captions": resolved(config.data, dataset).captions,
        "description": dataset.description,
        "fingerprint": dataset.fingerprint,
        "encoder": config.model.encoder,
        "text_encoder": config.model.text_encoder,
        "dtype": dtype,
        "batch_sizes": list(sizes),
        "repetitions": config.repetitions,
        "pass_seconds": MeasurementConfig().seconds,
        "training": dataclasses.asdict(TrainingConfig()) | {"batch_size": None},
    }
