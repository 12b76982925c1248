"""How much faster do several devices train?

    python experiments/speed/scaling.py [--devices 1 2 --strategies image-only concat --encoder small] [--quick]

Batches are divided among the devices: with the same batch size for any number of devices (strong scaling), and with the
same batch size per device (weak scaling). Efficiency is speed over that of one device times their number. On a CPU a
device is one core, and each number of devices has its own process; on an accelerator one process uses them all. The
numbers of devices are timed in turn, so that a ratio compares passes that are close in time.
"""

import dataclasses
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from fusion_bench.config import DataConfig, EncoderSize, ModelConfig, TrainingConfig


@dataclasses.dataclass(frozen=True)
class Config:
    """Speed of training against the number of devices."""

    devices: tuple[int, ...] = (1, 2)
    """Numbers of devices; the first is what efficiency refers to."""
    strategies: tuple[str, ...] = ("image-only", "concat", "tensor")
    """Strategies to train."""
    encoder: EncoderSize = "small"
    """Size of every encoder."""
    batch_size: int = 128
    """Examples in an update: of all devices together (strong), or of each (weak)."""
    repetitions: int = 5
    """Timed passes of each."""
    platform: Annotated[Literal["cpu", "cuda", "tpu"], tyro.conf.arg(help_behavior_hint="")] = "cpu"
    """Platform of the devices; a CPU is divided into devices of one core each."""
    quick: bool = False
    """One strategy and one pass, in seconds."""


Case = tuple[str, str, int]  # strategy, "strong" or "weak", batch size


def cases_of(config: Config, devices: int) -> list[Case]:
    """Returns the cases that are measured on a number of devices."""
    sizes = {"strong": config.batch_size, "weak": config.batch_size * devices}
    return [(strategy, kind, size) for strategy in config.strategies for kind, size in sizes.items()]


def device_process(connection: Connection, config: Config, counts: tuple[int, ...]) -> None:
    """Compiles every case on each number of devices, then answers (number, case) with examples/s in one pass."""
    if config.platform == "cpu":
        (devices,) = counts
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:devices])
    os.environ["JAX_PLATFORMS"] = config.platform
    from fusion_bench.data.batches import to_device
    from fusion_bench.data.load import load_dataset
    from fusion_bench.fusion.registry import StrategySpec
    from fusion_bench.training import mesh
    from fusion_bench.training.compile import compile_program
    from fusion_bench.training.timing import TimedLoop, train_loop

    dataset = load_dataset(DataConfig(train_size=2000 if config.quick else None))
    train = dataset.splits["train"]
    passes: dict[tuple[int, Case], TimedLoop] = {}
    for devices in counts:
        with mesh.use_devices(devices):
            data = mesh.replicate(to_device(dataset))
            for case in cases_of(config, devices):
                spec = StrategySpec(case[0])
                training = TrainingConfig(batch_size=case[2])
                model = ModelConfig(encoder=config.encoder)
                program = compile_program(spec, dataset.task, model, training, data, len(train))
                passes[devices, case] = train_loop(program, data, train)
    connection.send(None)
    for devices, case in iter(connection.recv, None):
        with mesh.use_devices(devices):
            connection.send(passes[devices, case].rate())


def measure(config: Config) -> dict[int, dict[Case, list[float]]]:
    """Returns examples per second of every pass, by number of devices and case."""
    context = multiprocessing.get_context("spawn")
    connections, processes = {}, []
    # A CPU is divided anew for each number; an accelerator has one process, which does not have to share it.
    groups = [(count,) for count in config.devices] if config.platform == "cpu" else [config.devices]
    for counts in groups:
        connection, theirs = context.Pipe()
        processes.append(context.Process(target=device_process, args=(theirs, config, counts), daemon=True))
        processes[-1].start()
        theirs.close()
        connection.recv()
        connections |= dict.fromkeys(counts, connection)
    rates = {devices: {case: [] for case in cases_of(config, devices)} for devices in config.devices}
    for _ in range(config.repetitions):
        for number in range(2 * len(config.strategies)):
            for devices, connection in connections.items():  # neighbours in time: the same case
                case = cases_of(config, devices)[number]
                connection.send((devices, case))
                rates[devices][case].append(connection.recv())
    for connection in dict.fromkeys(connections.values()):
        connection.send(None)
    for process in processes:
        process.join()
    return rates


def main(config: Config) -> int:
    """Measures, prints the table, and returns the exit status."""
    if config.quick:
        config = dataclasses.replace(config, strategies=config.strategies[:1], encoder="micro", repetitions=1)
    rates = measure(config)
    table = Table("", "scaling", "devices", "batch", "examples/s", "times one", "efficiency")
    first = config.devices[0]
    for number, (strategy, kind, _) in enumerate(cases_of(config, first)):
        for devices in config.devices:
            case = cases_of(config, devices)[number]
            ours = np.array(rates[devices][case])
            ratio = ours / np.array(rates[first][cases_of(config, first)[number]])
            efficiency = np.median(ratio) * first / devices
            table.add_row(
                strategy, kind, str(devices), str(case[2]), f"{np.median(ours):,.0f}",
                f"{np.median(ratio):.2f} ({ratio.min():.2f}–{ratio.max():.2f})", f"{efficiency:.2f}",
            )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(
        f"shapes, {config.encoder} encoders, {config.platform}, n = {config.repetitions} passes, medians", style="dim"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
