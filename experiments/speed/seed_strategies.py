"""What is the fastest way to train one strategy with several seeds?

    python experiments/speed/seed_strategies.py [--strategies image-only concat --encoder tiny --seeds 4] [--quick]

One seed after another with one executable, as in a study; `lax.map` over the seeds in one program; or `vmap`, which
trains them side by side, with convolutions as batched matrix products on a CPU. An epoch of each from its
initialisation is timed in turn; then compilation and memory, and the distance of the parameters from those of the first
way.

Found on two cores of an AMD EPYC, jax 0.10.2, `tiny`, 4 seeds, commit d0dc11f715, medians of 3 epochs: the differences
are within the machine's noise (`lax.map` takes 0.94 to 1.09 and `vmap` 0.93 to 1.03 times the seconds of one by one).
vmap takes 1.5 times as long to compile and four times the memory, and its other order of sums gives different
parameters. lax.map gives the same parameters to the last bit, but cannot stop, report or save between seeds. So a study
trains one seed after another. No accelerator was measured.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from rich.console import Console
from rich.table import Table

from fusion_bench.config import DataConfig, EncoderSize, ModelConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.study.provenance import describe_environment
from fusion_bench.training.lowering import compiler_options
from fusion_bench.training.step import epoch_order, make_functions

WAYS = ("one by one", "lax.map", "vmap")


@dataclasses.dataclass(frozen=True)
class Config:
    """Times three ways to train with several seeds."""

    strategies: tuple[str, ...] = ("image-only", "concat", "tensor")
    """Strategies to train."""
    encoder: EncoderSize = "tiny"
    """Size of every encoder."""
    seeds: int = 4
    """Trainings of each strategy."""
    repetitions: int = 3
    """Timed epochs of each way."""
    quick: bool = False
    """One strategy, two seeds, few images."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One compiled way: trains every seed for an epoch and returns the trained parameters, [seed, …]."""

    train: Callable[[], Any]
    compile_seconds: float
    temporary_bytes: int


def make_ways(strategy: str, config: Config) -> dict[str, Way]:
    """Compiles the ways."""
    dataset = load_dataset(DataConfig(train_size=300 if config.quick else None))
    data, indices = to_device(dataset), dataset.splits["train"]
    spec = StrategySpec(strategy)
    model = ModelConfig(encoder=config.encoder)
    functions = make_functions(spec, dataset.task, model, TrainingConfig(epochs=1), len(indices))
    orders = jnp.asarray(np.stack([epoch_order(indices, seed, 1) for seed in range(config.seeds)]))
    seeds, steps = jnp.arange(config.seeds), jnp.int32(functions.steps_per_epoch)

    def one(data, order, seed, steps):
        state, _ = functions.train(functions.init(seed), data, order, seed, steps)
        return state.variables.params

    def mapped(data, orders, seeds, steps):
        return lax.map(lambda pair: one(data, pair[0], pair[1], steps), (orders, seeds))

    def side_by_side(data, orders, seeds, steps):
        return jax.vmap(one, in_axes=(None, 0, 0, None))(data, orders, seeds, steps)

    def compiled(function, *arguments) -> tuple[Any, float, int]:
        start = time.perf_counter()
        program = jax.jit(function).lower(*arguments).compile(compiler_options(trains=True))
        seconds = time.perf_counter() - start
        memory: Any = program.memory_analysis()
        return program, seconds, memory.temp_size_in_bytes if memory else 0

    program, seconds, temporary = compiled(one, data, orders[0], seeds[0], steps)

    def one_by_one():
        trained = [program(data, order, seed, steps) for order, seed in zip(orders, seeds, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained)

    ways = {"one by one": Way(one_by_one, seconds, temporary)}
    for name, function in (("lax.map", mapped), ("vmap", side_by_side)):
        together, seconds, temporary = compiled(function, data, orders, seeds, steps)

        def run(together=together):
            return together(data, orders, seeds, steps)

        ways[name] = Way(run, seconds, temporary)
    return ways


def difference(one: Any, other: Any) -> float:
    """Returns the largest difference of any parameter, relative to the largest."""
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    largest = max(float(jnp.abs(a).max()) for a, _ in pairs)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs) / largest


def main(config: Config) -> int:
    """Takes the times, prints the table, and returns the exit status."""
    if config.quick:
        config = dataclasses.replace(config, strategies=config.strategies[:1], encoder="micro", seeds=2, repetitions=1)
    table = Table("strategy", "way", "s a seed", "times one by one", "compile s", "temporary MB", "difference")
    for strategy in config.strategies:
        ways = make_ways(strategy, config)
        results = {name: jax.block_until_ready(way.train()) for name, way in ways.items()}  # warm
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(config.repetitions):
            for name, way in ways.items():
                start = time.perf_counter()
                jax.block_until_ready(way.train())
                seconds[name].append((time.perf_counter() - start) / config.seeds)
        for name, way in ways.items():
            ratio = np.median(np.divide(seconds[name], seconds[WAYS[0]]))
            table.add_row(
                strategy, name, f"{np.median(seconds[name]):.3g}", f"{ratio:.2f}", f"{way.compile_seconds:.1f}",
                f"{way.temporary_bytes / 1e6:.1f}", f"{difference(results[WAYS[0]], results[name]):.1e}",
            )  # fmt: skip
        table.add_section()
    console = Console(width=max(100, Console().width))
    console.print(table)
    environment = describe_environment()
    console.print(
        f"shapes, an epoch with each of {config.seeds} seeds, {config.encoder} encoders, medians of "
        f"{config.repetitions}; difference: of any parameter, relative. {environment['device']}, "
        f"jax {jax.__version__}, commit {environment['commit']}.",
        style="dim",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
