"""How do time and memory grow: with batch, width, number of modalities, training-set size and number of seeds?

    python experiments/speed/cost_growth.py [--out results/cpu-2-cores/cost-growth] [--quick]

Each is doubled a few times, with everything else as usual. FLOPs and temporary memory of a training step come from the
compiled program, seconds from interleaved timed passes. FLOPs are the sum of a constant and a power; the slope of a
line through the logarithms of their increments is the exponent of the power, and 1 is linear. If the growth is
exponential, with one more modality at a time, the factor between the last increments is printed. Memory and seconds
are no such sums: their line is fitted to the values, and their factor is that of the last values. Each number stands
beside that of the formula, which FLOPs and memory must not exceed; else the exit status is 1.

Found on two cores of an AMD EPYC, jax 0.10.2 (results/cpu-2-cores/cost-growth): FLOPs grow as the formulas predict, up
to 0.05 in the exponent, and memory no faster. Temporary memory and seconds hardly depend on the width or the number of
modalities, as the CNN dominates both. Only a product of six factors of 5 doubles a step's time and more than doubles
its memory. Training several seeds takes the time of as many trainings, in the memory of one.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import tyro
from rich.console import Console
from rich.markdown import Markdown

from fusion_bench.config import DataConfig, ModelConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.dataset import Dataset, Modality
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.report.listing import markdown_table
from fusion_bench.study.provenance import describe_environment
from fusion_bench.training.compile import Program, compile_program
from fusion_bench.training.step import epoch_order
from fusion_bench.training.timing import train_loop

SLACK = 0.05
"""Relative amount by which a fitted exponent or factor may exceed the formula's: XLA's counts include small terms."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures how costs grow."""

    out: Path = Path("runs/cost-growth")
    """Directory of table.md and table.csv."""
    repetitions: int = 6
    """Timed passes of each size; with an even number a steady drift of the machine cancels."""
    quick: bool = False
    """Measure some quantities at three sizes with few images, as a smoke test."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """A quantity that grows.

    Attributes:
      what: its name.
      strategy: the trained strategy.
      sizes: its values.
      build: size → Measured.
      exponents: of the formula, for FLOPs, memory and seconds.
      exponential: whether sizes increase by one, and `exponents` are factors.
    """

    what: str
    strategy: str
    sizes: tuple[int, ...]
    build: Callable[[int], "Measured"]
    exponents: tuple[float, float, float]
    exponential: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """Costs at one size: exact FLOPs and bytes, and a function that measures the seconds once."""

    flops: float
    memory: float
    seconds: Callable[[], float]


def steps_of(dataset: Dataset, strategy: str, batch_size: int = 64) -> Measured:
    """Returns the cost of a training step."""
    program, data, train = compile_for(dataset, strategy, batch_size)
    timed = train_loop(program, data, train)
    memory: Any = program.train.memory_analysis()  # pyright: ignore[reportFunctionMemberAccess]
    return Measured(program.train_flops * batch_size, memory.temp_size_in_bytes, lambda: batch_size / timed.rate())


def compile_for(dataset: Dataset, strategy: str, batch_size: int = 64) -> tuple[Program, Any, np.ndarray]:
    spec = StrategySpec(strategy)
    data, train = to_device(dataset), dataset.splits["train"]
    training = TrainingConfig(batch_size=batch_size)
    model = ModelConfig(dtype="float32")
    return compile_program(spec, dataset.task, model, training, data, len(train)), data, train


def epochs_of(dataset: Dataset, strategy: str, seeds: int = 1) -> Measured:
    """Returns the cost of an epoch with each of several seeds; memory is that of the dataset and of temporaries."""
    program, data, train = compile_for(dataset, strategy)
    orders = [epoch_order(train, seed, 1) for seed in range(seeds)]
    steps = np.int32(program.steps_per_epoch)

    def run() -> float:
        start = time.perf_counter()
        for seed, order in enumerate(orders):
            state, _ = program.train(program.init(np.int32(seed)), data, order, np.int32(seed), steps)
            jax.block_until_ready(state)
        return time.perf_counter() - start

    flops = program.train_flops * program.batch_size * int(steps) * seeds
    analysis: Any = program.train.memory_analysis()  # pyright: ignore[reportFunctionMemberAccess]
    memory = analysis.temp_size_in_bytes + sum(array.nbytes for array in jax.tree.leaves(data))
    return Measured(flops, memory, run)


def with_sensors(dataset: Dataset, count: int) -> Dataset:
    """Returns the dataset with `count` modalities: image, text, and vectors of 16 random numbers."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count - 2, len(dataset.labels), 16)).astype(np.float32)
    sensors = {f"sensor{i}": Modality("vector", values) for i, values in enumerate(vectors)}
    return dataclasses.replace(dataset, modalities={**dataset.modalities, **sensors})


def growths(config: Config) -> list[Growth]:
    """Returns all quantities that grow."""
    dataset = load_dataset(DataConfig(train_size=1000 if config.quick else None, test_size=100))

    def few(*sizes: int) -> tuple[int, ...]:
        return sizes[:3] if config.quick else sizes

    def sized(size: int) -> Dataset:
        return load_dataset(DataConfig(train_size=size, test_size=100))

    def of_width(strategy: str, option: str = "out_features") -> Callable[[int], Measured]:
        return lambda width: steps_of(dataset, f"{strategy}:{option}={width}")

    def of_modalities(strategy: str) -> Callable[[int], Measured]:
        return lambda count: steps_of(with_sensors(dataset, count), strategy)

    found = [
        Growth("batch", "concat", few(32, 64, 128, 256, 512), lambda n: steps_of(dataset, "concat", n), (1, 1, 1)),
        Growth("width", "tensor", few(16, 32, 64, 128), of_width("tensor", "width"), (2, 2, 2)),
        Growth("width", "low-rank", few(32, 64, 128, 256), of_width("low-rank"), (1, 1, 1)),
        Growth("width", "multiplicative", few(16, 32, 64, 128), of_width("multiplicative"), (1, 1, 1)),
        Growth("modalities", "concat", few(2, 4, 8), of_modalities("concat"), (1, 1, 1)),
        Growth("modalities", "low-rank", few(2, 4, 8), of_modalities("low-rank"), (1, 1, 1)),
        Growth(
            "modalities", "tensor:width=4", few(2, 3, 4, 5, 6), of_modalities("tensor:width=4"), (5, 5, 5),
            exponential=True,
        ),
        Growth(
            "training examples, an epoch", "concat", few(500, 1000, 2000, 4000, 8000),
            lambda size: epochs_of(sized(size), "concat"), (1, 1, 1),
        ),
        Growth("seeds, an epoch of each", "concat", few(1, 2, 4), lambda n: epochs_of(dataset, "concat", n), (1, 0, 1)),
    ]  # fmt: skip
    return found[::4] if config.quick else found


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Returns the slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def exponent_of_increments(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Returns p of a + b · size^p, exactly where sizes double: each increment is 2^p times the one before."""
    return exponent(sizes[1:], np.diff(values).tolist())


def factor_of_increments(values: Sequence[float]) -> float:
    """Returns r of a + b · r^size, where sizes go up by one, from the last two increments."""
    *_, before, last = np.diff(values)
    return float(last / before)


def measure(growth: Growth, repetitions: int) -> list[dict[str, Any]]:
    """Returns a row for each size."""
    built = {size: growth.build(size) for size in growth.sizes}
    seconds: dict[int, list[float]] = {size: [] for size in built}
    for repetition in range(repetitions):
        for size in built if repetition % 2 else reversed(built):
            seconds[size].append(built[size].seconds())
    return [
        {
            "grows": growth.what, "strategy": growth.strategy, "size": size, "flops": measured.flops,
            "memory_bytes": measured.memory, "seconds": float(np.median(seconds[size])),
            "seconds_low": min(seconds[size]), "seconds_high": max(seconds[size]),
        }
        for size, measured in built.items()
    ]  # fmt: skip


def row_of(growth: Growth, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], bool]:
    """Returns the line of a growth in the table, and whether it is within its formula."""
    cells, within = [growth.what, growth.strategy, f"{growth.sizes[0]:,} to {growth.sizes[-1]:,}"], True
    for quantity, formula in zip(("flops", "memory_bytes", "seconds"), growth.exponents, strict=True):
        values = [row[quantity] for row in rows]
        if growth.exponential:
            found = factor_of_increments(values) if quantity == "flops" else values[-1] / values[-2]
        elif quantity == "flops":
            found = exponent_of_increments(growth.sizes, values)
        else:
            found = exponent(growth.sizes, values)
        mark = "×" if growth.exponential else ""
        cells.append(f"{mark}{abs(found) if abs(found) < 0.005 else found:.2f} ({mark}{formula:g})")
        if quantity != "seconds" and found > formula * (1 + SLACK) + (formula == 0) * SLACK:
            cells[-1] += " !"
            within = False
    return cells, within


def main(config: Config) -> int:
    """Measures, prints and writes the table; returns 1 if a cost grows faster than its formula."""
    rows, lines, all_within = [], [], True
    for growth in growths(config):
        found = measure(growth, 1 if config.quick else config.repetitions)
        cells, within = row_of(growth, found)
        rows += found
        lines.append(cells)
        all_within &= within
    header = ["grows", "strategy", "from, to", "FLOPs", "memory", "seconds"]
    environment = describe_environment()
    text = markdown_table(header, lines, "lllrrr") + (
        "\n- Fitted exponents, with those of the formula in brackets; ! marks FLOPs and memory that exceed them by "
        f"more than {100 * SLACK:.0f} %. × is the factor of one more modality: the outer product has (width + 1)^M "
        "entries.\n"
        "- FLOPs, temporary memory and seconds are those of a compiled training step, or of an epoch where that is "
        "named, then with the dataset's memory on the device. Seeds are trained one after another, in the memory of "
        "one.\n"
        f"- shapes, tiny encoders, batch 64, medians of n = {1 if config.quick else config.repetitions} passes; "
        f"{environment['device']}, jax {jax.__version__}, commit {environment['commit']}.\n"
    )
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "table.md").write_text(text, encoding="utf-8")
    pd.DataFrame(rows).to_csv(config.out / "table.csv", index=False, float_format="%.6g")
    console = Console()
    console.print(Markdown(text))
    console.print(f"written to {config.out}", style="dim")
    return 0 if all_within else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
