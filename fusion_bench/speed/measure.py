"""Measures every strategy on the default device: all is compiled first, then timed by turns."""

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from fusion_bench.benchmark import throughput
from fusion_bench.benchmark.environment import describe_environment
from fusion_bench.benchmark.throughput import Pass, inference_pass, train_pass
from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError
from fusion_bench.fusion.interface import Blueprint
from fusion_bench.fusion.registry import StrategySpec, parse_strategies
from fusion_bench.models.encoders import compute_dtype
from fusion_bench.speed import ceilings
from fusion_bench.speed.config import SpeedConfig
from fusion_bench.speed.energy import Meter, open_meter
from fusion_bench.speed.record import (
    KINDS,
    Ceilings,
    DeviceSpeed,
    Kind,
    Latency,
    Point,
    Spread,
    StrategySpeed,
)
from fusion_bench.training.compile_cache import without_cache
from fusion_bench.training.program import (
    Variables,
    compile_fixed,
    compile_predictor,
    compile_program,
    run_key,
    split_module,
)

ENERGY_SECONDS = 1.0
"""Length of a pass whose energy is read: counters move some ten times a second."""
T = TypeVar("T")
Report = Callable[[str], None]


class Subject(NamedTuple):
    """What is timed: a strategy's training or inference in batches of one size."""

    strategy: str
    kind: Kind
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Ready:
    """A subject, compiled and warm.

    Attributes:
      timed: its pass.
      point: all that the compiler tells; the rate is still to be measured.
    """

    timed: Pass
    point: Callable[[Spread], Point]


@dataclasses.dataclass
class Compiled:
    """All that was compiled: the subjects in the order of their first turn, and of each strategy what it took."""

    ready: dict[Subject, Ready] = dataclasses.field(default_factory=dict)
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    params: dict[str, int] = dataclasses.field(default_factory=dict)
    one: dict[str, Pass] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def of(self, strategy: str, kind: Kind) -> list[Subject]:
        return [subject for subject in self.ready if subject[:2] == (strategy, kind)]


def measure(config: SpeedConfig, report: Report) -> DeviceSpeed:
    """Returns the figures of the default device.

    Args:
      config: what to measure.
      report: told now and then what is being done.

    Raises:
      UserError: the configuration or the data are not as they should be, or a strategy does not fit the device.
    """
    config.check()
    dataset = load_dataset(config.data)
    if len(dataset.modalities) < 2:
        raise UserError(
            f"{dataset.name} has one modality, {next(iter(dataset.modalities))}; a fusion needs two"
        )
    specs = parse_strategies(config.strategies, dataset.task)
    sizes = config.sizes(len(dataset.splits["train"]))
    with without_cache():
        compiled = _compile_all(config, specs, sizes, dataset, report)
        report("the device's ceilings")
        dtype = compute_dtype(config.model)
        matmul, matmul_size = ceilings.fastest_matmul(dtype)
        array = ceilings.array_pass()
    turns: dict[Hashable, Callable[[], Sequence[float]]] = {
        "matmul": _rate(matmul),
        "array": _rate(array),
        **{subject: _rate(ready.timed) for subject, ready in compiled.ready.items()},
        **{strategy: timed.latencies for strategy, timed in compiled.one.items()},
    }
    samples = take_turns(turns, config.repetitions, report)
    meter = open_meter(jax.devices()[0])
    joules = _measure_energy(compiled, samples, meter, config.repetitions, report) if meter else {}
    return DeviceSpeed(
        environment=describe_environment(),
        study=_describe(config, dataset, str(np.dtype(dtype)), sizes),
        ceilings=Ceilings(
            matmul_size, Spread.of(samples["matmul"]), ceilings.ARRAY_BYTES, Spread.of(samples["array"])
        ),
        allocator_peak_bytes=(jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        strategies=tuple(_strategy_speed(spec, compiled, samples, joules) for spec in specs),
        left_out=tuple(compiled.left_out),
    )


def rounds(subjects: Sequence[T], repetitions: int) -> Iterator[tuple[int, T]]:
    """Yields every subject once a repetition, forwards and backwards by turns.

    So a machine that gets steadily slower, or faster, favours none of them.
    """
    for repetition in range(1, repetitions + 1):
        for subject in subjects if repetition % 2 else reversed(subjects):
            yield repetition, subject


def take_turns(
    turns: Mapping[Any, Callable[[], Sequence[float]]], repetitions: int, report: Report
) -> dict[Hashable, list[float]]:
    """Returns the samples of each subject, which is asked once a repetition, in the order of `rounds`."""
    samples: dict[Hashable, list[float]] = {name: [] for name in turns}
    told = 0
    for repetition, name in rounds(list(turns), repetitions):
        if repetition > told:
            report(f"repetition {repetition} of {repetitions}")
            told = repetition
        samples[name] += turns[name]()
    return samples


def _rate(timed: Pass) -> Callable[[], Sequence[float]]:
    def measure() -> list[float]:
        timed.steps(1)  # brings its data back into the caches, which others have used
        return [timed.rate()]

    return measure


def _compile_all(
    config: SpeedConfig,
    specs: Sequence[StrategySpec],
    sizes: Sequence[int],
    dataset: Dataset,
    report: Report,
) -> Compiled:
    """Compiles every strategy for one batch size after another; what does not fit the device is left out."""
    compiled, data = Compiled(), to_device(dataset)
    for place, (size, spec) in rounds_of_sizes(specs, sizes):
        report(f"compiling {spec.label}, batch {size} ({place} of {len(specs) * len(sizes)})")
        make = _compile_posthoc if spec.registration.is_posthoc else _compile_trained
        try:
            make(compiled, config, spec, size, dataset, data)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            line = f"{spec.label}, batch {size}: the device has too little memory for it"
            if size == 1:
                raise UserError(line) from error
            compiled.left_out.append(line)
    return compiled


def rounds_of_sizes(specs: Sequence[T], sizes: Sequence[int]) -> Iterator[tuple[int, tuple[int, T]]]:
    """Yields, counted from 1, every size with every strategy, these forwards and backwards by turns."""
    turns = rounds(specs, len(sizes))
    return enumerate(((sizes[turn - 1], spec) for turn, spec in turns), 1)


def _compile_trained(
    compiled: Compiled,
    config: SpeedConfig,
    spec: StrategySpec,
    size: int,
    dataset: Dataset,
    data: DeviceData,
) -> None:
    splits, label = dataset.splits, spec.label
    training = TrainingConfig(batch_size=size)
    program = compile_program(
        spec, dataset.task, config.model, training, data, len(splits["train"]), predict_batch=size
    )
    variables = program.init(np.int32(0)).variables
    train = train_pass(program, data, splits["train"])
    inference = inference_pass(program.predict, variables, data, splits["test"], size)
    if size == 1:
        compiled.one[label] = _one_by_one(program.graph, variables, data, splits["test"])
    compiled.params[label] = program.params
    compiled.seconds[label].append(program.compile_seconds)
    compiled.ready |= {
        Subject(label, "train", size): _ready(train, size, program.train, program.train_flops),
        Subject(label, "inference", size): _ready(inference, size, program.predict, program.inference_flops),
    }


def _compile_posthoc(
    compiled: Compiled,
    config: SpeedConfig,
    spec: StrategySpec,
    size: int,
    dataset: Dataset,
    data: DeviceData,
) -> None:
    """Compiles the inference of what is joined after the fact: of its members and its join, as they are at first."""
    module = spec.build(Blueprint(dataset.task, config.model, run_key(0, "init")))
    predictor = compile_predictor(module, data, size)
    timed = inference_pass(predictor.predict, predictor.variables, data, dataset.splits["test"], size)
    if size == 1:
        compiled.one[spec.label] = _one_by_one(*split_module(module), data, dataset.splits["test"])
    compiled.params[spec.label] = predictor.params
    compiled.seconds[spec.label].append(predictor.compile_seconds)
    subject = Subject(spec.label, "inference", size)
    compiled.ready[subject] = _ready(timed, size, predictor.predict, predictor.inference_flops)


def _one_by_one(graph: Any, variables: Variables, data: DeviceData, indices: np.ndarray) -> Pass:
    """Returns requests for one example's logits, each waited for, by a program with its weights built in."""
    predict = compile_fixed(graph, variables, data, 1)

    def steps(count: int) -> None:
        for number in range(count):
            np.asarray(predict(data, indices[number % len(indices), None]))

    return Pass(steps, 1)


def _ready(timed: Pass, size: int, program: Any, flops: float) -> Ready:
    """Adds what the compiler tells of a program: XLA counts a loop's body once, which is one step."""
    moved = (program.cost_analysis() or {}).get("bytes accessed")
    memory = program.memory_analysis()
    peak = temporary = None
    if memory is not None:
        temporary = int(memory.temp_size_in_bytes)
        inputs = memory.argument_size_in_bytes - memory.alias_size_in_bytes
        peak = int(inputs + memory.output_size_in_bytes + temporary)

    def point(rate: Spread) -> Point:
        return Point(size, rate, flops if flops > 0 else None, moved and moved / size, peak, temporary)

    return Ready(timed, point)


def _measure_energy(
    compiled: Compiled,
    samples: Mapping[Hashable, Sequence[float]],
    meter: Meter,
    repetitions: int,
    report: Report,
) -> dict[Hashable, list[float]]:
    """Returns the joules per example of each strategy's fastest training and inference."""

    def joules(timed: Pass, rate: float) -> Callable[[], Sequence[float]]:
        count = max(1, round(ENERGY_SECONDS * rate / timed.work))

        def measure() -> list[float]:
            timed.steps(1)
            before = meter.joules()
            timed.steps(count)
            return [(meter.joules() - before) / (count * timed.work)]

        return measure

    turns: dict[Hashable, Callable[[], Sequence[float]]] = {}
    for strategy in compiled.params:
        for kind in KINDS:
            rates = {subject: statistics.median(samples[subject]) for subject in compiled.of(strategy, kind)}
            if rates:
                subject = max(rates, key=lambda subject: rates[subject])
                turns[subject] = joules(compiled.ready[subject].timed, rates[subject])
    report("energy")
    return take_turns(turns, repetitions, report)


def _strategy_speed(
    spec: StrategySpec,
    compiled: Compiled,
    samples: Mapping[Hashable, Sequence[float]],
    joules: Mapping[Hashable, Sequence[float]],
) -> StrategySpeed:
    def points(kind: Kind) -> tuple[Point, ...]:
        found = []
        for subject in compiled.of(spec.label, kind):
            point = compiled.ready[subject].point(Spread.of(samples[subject]))
            energy = Spread.of(joules[subject]) if subject in joules else None
            found.append(dataclasses.replace(point, joules=energy))
        return tuple(sorted(found, key=lambda point: point.batch_size))

    seconds = samples[spec.label]
    p50, p95, p99 = (float(np.percentile(seconds, percent)) for percent in (50, 95, 99))
    return StrategySpeed(
        strategy=spec.label,
        family=spec.registration.family,
        params=compiled.params[spec.label],
        compile_s=Spread.of(compiled.seconds[spec.label]),
        train=points("train"),
        inference=points("inference"),
        latency_s=Latency(p50, p95, p99, len(seconds)),
    )


def _describe(config: SpeedConfig, dataset: Dataset, dtype: str, sizes: Sequence[int]) -> dict[str, Any]:
    """Returns what was measured, as JSON."""
    return {
        "dataset": dataset.name,
        "captions": config.data.captions if dataset.captions is not None else "its own",
        "description": dataset.description,
        "fingerprint": dataset.fingerprint,
        "encoder": config.model.encoder,
        "text_encoder": config.model.text_encoder,
        "dtype": dtype,
        "batch_sizes": list(sizes),
        "repetitions": config.repetitions,
        "pass_seconds": throughput.SECONDS,
        "training": dataclasses.asdict(TrainingConfig()) | {"batch_size": None},
    }
