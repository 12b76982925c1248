"""Compiled programs of every strategy, for one batch size after another."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import DeviceData, to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.errors import OutOfMemory, UserError
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.speed.config import SpeedConfig
from fusion_bench.speed.interleave import Report, rounds
from fusion_bench.speed.record import Kind
from fusion_bench.training.backend import memory_told
from fusion_bench.training.compile import compile_predictor, compile_program
from fusion_bench.training.cost import predict_bytes, train_bytes
from fusion_bench.training.step import make_functions, run_key, split_module
from fusion_bench.training.timing import TimedLoop, inference_loop, single_loop, train_loop


class Case(NamedTuple):
    """A strategy's training or inference in batches of one size, to be timed."""

    strategy: str
    kind: Kind
    batch_size: int


class Costs(NamedTuple):
    """Costs of a case from the compiler's analysis, as in `Measurement`."""

    flops: float | None
    moved_bytes: float | None
    peak_bytes: int | None
    temporary_bytes: int | None


@dataclasses.dataclass
class Compiled:
    """The compiled cases in the order of their first turn, with costs; compile times and more by strategy."""

    timed: dict[Case, TimedLoop] = dataclasses.field(default_factory=dict)
    costs: dict[Case, Costs] = dataclasses.field(default_factory=dict)
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    params: dict[str, int] = dataclasses.field(default_factory=dict)
    one: dict[str, TimedLoop] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def of(self, strategy: str, kind: Kind) -> list[Case]:
        return [case for case in self.timed if case[:2] == (strategy, kind)]


def compile_all(
    config: SpeedConfig, specs: Sequence[StrategySpec], sizes: Sequence[int], dataset: Dataset, report: Report
) -> Compiled:
    """Compiles every strategy for one batch size after another; leaves out those that do not fit the device."""
    compiled, data = Compiled(), to_device(dataset)
    for place, (turn, spec) in enumerate(rounds(specs, len(sizes)), 1):
        size = sizes[turn - 1]
        report(f"compiling {spec.label}, batch {size} ({place} of {len(specs) * len(sizes)})")
        try:
            with memory_told("it"):
                _compile(compiled, config, spec, size, dataset, data)
        except OutOfMemory as error:
            line = f"{spec.label}, batch {size}: {error}"
            if size == 1:
                raise UserError(line) from error
            compiled.left_out.append(line)
    return compiled


def _compile(
    compiled: Compiled, config: SpeedConfig, spec: StrategySpec, size: int, dataset: Dataset, data: DeviceData
) -> None:
    """Compiles a strategy's training and inference; of a post-hoc one only inference, with initial parameters."""
    splits, label, task = dataset.splits, spec.label, dataset.task
    if spec.registration.is_posthoc:
        module = spec.build(Blueprint(task, config.model, run_key(0, "init")))
        made = compile_predictor(module, data, size)
        graph, variables = split_module(module)
    else:
        training, num_train = TrainingConfig(batch_size=size), len(splits["train"])
        made = compile_program(spec, task, config.model, training, data, num_train, predict_batch=size)
        graph, variables = made.graph, made.init(np.int32(0)).variables
        moved = train_bytes(make_functions(spec, task, config.model, training, num_train), data)
        case = Case(label, "train", size)
        compiled.timed[case] = train_loop(made, data, splits["train"])
        compiled.costs[case] = _costs(made.train, made.train_flops, moved)
    case = Case(label, "inference", size)
    compiled.timed[case] = inference_loop(made.predict, variables, data, splits["test"], size)
    compiled.costs[case] = _costs(made.predict, made.inference_flops, predict_bytes(graph, variables, data, size))
    if size == 1:
        compiled.one[label] = single_loop(graph, variables, data, splits["test"])
    compiled.params[label] = made.params
    compiled.seconds[label].append(made.compile_seconds)


def _costs(program: Any, flops: float, moved: float | None) -> Costs:
    """Returns the compiler's analysis of a program; XLA counts a loop's body once, which is one step."""
    memory = program.memory_analysis()
    peak = temporary = None
    if memory is not None:
        temporary = int(memory.temp_size_in_bytes)
        inputs = memory.argument_size_in_bytes - memory.alias_size_in_bytes
        peak = int(inputs + memory.output_size_in_bytes + temporary)
    return Costs(flops if flops > 0 else None, moved, peak, temporary)
