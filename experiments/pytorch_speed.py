"""Does training a CNN here cost what it costs in PyTorch, on two CPU cores?

    pip install torch==2.13.0                 # an optional comparison: nothing else needs PyTorch
    python experiments/pytorch_speed.py [--encoder small --batch-size 128 --repetitions 7]

The image-only model is trained by the project's own compiled program, and the same network by PyTorch: eager with
channels last, and under torch.compile. Batch, optimiser, schedule, label smoothing and order of examples are the
same, augmentation is off, images are uint8 in memory, each side has two threads. PyTorch lives in a process of its
own, and the two take turns, so that a ratio compares neighbours in time. That the networks are one is checked first.

Found on two cores of an AMD EPYC, idle, with `small`, batch 128, 7 repetitions, commit ca17d4f39e: 0.97 of the better
PyTorch (torch 2.13.0, compiled; 0.90 to 1.02 in single turns) and 1.17 of eager with jax 0.10.2, 1.02 and 1.23 with
jax 0.12.0.1.
"""

import dataclasses
import importlib.util
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from rich.console import Console
from rich.table import Table

from fusion_bench.config import ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData, DeviceModality, gather
from fusion_bench.data.dataset import ModalitySpec, Task
from fusion_bench.fusion.registry import StrategySpec, strategies
from fusion_bench.models.cnn import PatchStageSpec
from fusion_bench.models.encoders import WIDTHS
from fusion_bench.training.optimizer import make_schedule
from fusion_bench.training.program import Program, compile_program, epoch_order

THREADS = 2
EXAMPLES = 2560  # in one repetition: about two seconds of `small`
REPETITIONS_PER_EPOCH = 4
CLASSES = 10
TOLERANCE = 1e-4  # of logits in training mode
PAUSE = 0.3  # seconds in which the other side's threads stop spinning


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares training speed with PyTorch's on two CPU threads."""

    encoder: Literal["tiny", "small"] = "small"
    """Size of the image encoder."""
    batch_size: int = 128
    """Examples in an update, on both sides."""
    repetitions: int = 7
    """Timed turns of each side."""

    @property
    def steps(self) -> int:
        """Updates in one repetition."""
        return max(1, EXAMPLES // self.batch_size)

    @property
    def num_train(self) -> int:
        return self.steps * self.batch_size * REPETITIONS_PER_EPOCH

    @property
    def training(self) -> TrainingConfig:
        epochs = math.ceil((1 + self.repetitions) / REPETITIONS_PER_EPOCH)  # one repetition warms up
        return TrainingConfig(epochs=epochs, batch_size=self.batch_size, augment=False)


@dataclasses.dataclass(frozen=True)
class PyTorchJob:
    """What the PyTorch process needs: the network's description and first values, the data, the budget."""

    config: Config
    parameters: list[np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    learning_rates: list[float]


def pytorch_process(connection: Connection, job: PyTorchJob) -> None:
    """Answers batches of indices [step, batch] for a variant with (seconds, mean loss), and "logits" with those."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(THREADS)
    networks = {
        variant: pytorch_network(job) for variant in ("eager", *(["compile"] if can_compile() else []))
    }
    connection.send((list(networks), sum(p.numel() for p in networks["eager"].parameters())))
    trainers = {variant: pytorch_trainer(network, variant, job) for variant, network in networks.items()}
    normalise = pytorch_normaliser(job)
    for variant, batches in iter(connection.recv, None):
        if variant == "logits":
            with torch.no_grad():
                connection.send(networks["eager"](normalise(torch.from_numpy(batches))).numpy())
        else:
            connection.send(trainers[variant](torch.from_numpy(batches)))


def pytorch_network(job: PyTorchJob) -> Any:
    """Returns fusion_bench.models.encoders.PooledEncoder of a grid, and its head, in PyTorch, with the job's values."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    class Residual(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(width)

        def forward(self, x):
            return x + self.norm(self.conv(x)).relu_()

    widths = WIDTHS[job.config.encoder]
    layers, channels = [], job.images.shape[-1]
    for stage in widths.stages:
        assert isinstance(stage, PatchStageSpec)
        stem = nn.Conv2d(channels, stage.width, stage.patch, stride=stage.patch, bias=False)
        layers += [stem, nn.BatchNorm2d(stage.width), nn.ReLU(inplace=True)]
        layers += [Residual(stage.width) for _ in range(stage.blocks)]
        channels = stage.width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(channels)]
    layers += [nn.Linear(channels, widths.hidden), nn.ReLU(inplace=True), nn.Linear(widths.hidden, CLASSES)]
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), job.parameters, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return network.to(memory_format=torch.channels_last).train()


def pytorch_normaliser(job: PyTorchJob) -> Callable[[Any], Any]:
    """Returns a function from indices to standardised images, channels last in memory."""
    import torch  # pyright: ignore[reportMissingImports]

    images, mean, deviation = (torch.from_numpy(array) for array in (job.images, job.mean, job.deviation))
    return lambda batch: ((images[batch].float() - mean) / deviation).permute(0, 3, 1, 2)


def pytorch_trainer(network: Any, variant: str, job: PyTorchJob) -> Callable[[Any], tuple[float, float]]:
    """Returns a function that trains on batches and tells how long it took, and the mean loss."""
    import torch  # pyright: ignore[reportMissingImports]

    training, labels = job.config.training, torch.from_numpy(job.labels).long()
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.99), fused=True)
    learning_rates = iter(job.learning_rates)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
    normalise = pytorch_normaliser(job)

    def loss_fn(batch):
        return cross_entropy(network(normalise(batch)), labels[batch])

    loss_fn = torch.compile(loss_fn) if variant == "compile" else loss_fn

    def train(batches):
        total = torch.zeros(())
        start = time.perf_counter()
        for batch in batches:
            for group, rate in zip(optimizer.param_groups, [next(learning_rates)] * 2, strict=True):
                group["lr"] = rate
            loss = loss_fn(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        return time.perf_counter() - start, float(total) / len(batches)

    return train


def can_compile() -> bool:
    """Whether torch.compile finds the C++ compiler that it needs."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


class Ours:
    """The project's own side: the compiled program of `image-only`, and where its training stands."""

    def __init__(self, config: Config, data: DeviceData):
        task = Task({"image": ModalitySpec("grid", data.modalities["image"].values.shape[1:])}, CLASSES)
        spec = StrategySpec(strategies(["image"])["image-only"])
        model = ModelConfig(encoder=config.encoder, dtype="float32")
        self.program: Program = compile_program(spec, task, model, config.training, data, config.num_train)
        self.steps, self.data = config.steps, data
        self.indices, self.seed = np.arange(config.num_train, dtype=np.int32), jnp.int32(0)
        self.state = self.program.init(self.seed)

    def module(self) -> Any:
        """Returns the strategy's module in training mode, a copy."""
        module = nnx.merge(self.program.graph, *self.state.variables, copy=True)
        module.train()
        return module

    def next_batches(self) -> np.ndarray:
        """Returns the indices [step, batch] of the next turn's batches."""
        epoch, first = divmod(int(self.state.step), self.program.steps_per_epoch)
        self.order = epoch_order(self.indices, seed=0, epoch=epoch + 1)
        return self.order.reshape(-1, self.program.batch_size)[first : first + self.steps]

    def train(self) -> tuple[float, float]:
        """Takes the next turn; returns its seconds and its mean loss."""
        start = time.perf_counter()
        self.state, loss = jax.block_until_ready(
            self.program.train(self.state, self.data, self.order, self.seed, jnp.int32(self.steps))
        )
        return time.perf_counter() - start, float(loss)


def pytorch_parameters(module: Any) -> Iterator[np.ndarray]:
    """Yields the parameters of `image-only` in the order and the layout of `pytorch_network`'s."""

    def scale_and_bias(norm) -> list[np.ndarray]:
        return [np.array(norm.scale[...]), np.array(norm.bias[...])]

    def kernel(conv, size: int) -> np.ndarray:
        array = np.asarray(conv.kernel[...])
        return array.reshape(size, size, -1, array.shape[-1]).transpose(3, 2, 0, 1).copy()

    for stage in module.encoder.encoder.cnn.stages:
        yield from [kernel(stage.stem, stage.patch), *scale_and_bias(stage.activate.norm)]
        for block in stage.blocks:
            yield from [kernel(block.conv, 3), *scale_and_bias(block.activate.norm)]
    yield from scale_and_bias(module.encoder.norm)
    for linear in (module.head.hidden, module.head.scores):
        yield from [np.asarray(linear.kernel[...]).T.copy(), np.array(linear.bias[...])]


def make_data(num_examples: int) -> tuple[DeviceData, np.ndarray, np.ndarray]:
    """Returns random images of CIFAR-10's shape with labels, for us and for PyTorch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_examples, 32, 32, 3), np.uint8)
    labels = rng.integers(0, CLASSES, num_examples, np.int32)
    image = DeviceModality(jnp.asarray(images), jnp.full(3, 127.5), jnp.full(3, 73.9))
    return DeviceData({"image": image}, jnp.asarray(labels)), images, labels


def main(config: Config) -> int:
    """Checks that both sides are one network, lets them take turns, prints the table. Returns the exit status."""
    if importlib.util.find_spec("torch") is None:
        print("this comparison needs PyTorch: pip install torch==2.13.0", file=sys.stderr)
        return 2
    if hasattr(os, "sched_setaffinity"):  # two threads, on a machine of many cores too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    jax.config.update("jax_platforms", "cpu")
    data, images, labels = make_data(config.num_train)
    ours = Ours(config, data)
    image = data.modalities["image"]
    schedule = make_schedule(config.training, ours.program.steps_per_epoch * config.training.epochs)
    rates = np.asarray(jax.vmap(schedule)(jnp.arange(config.steps * (1 + config.repetitions)))).tolist()
    job = PyTorchJob(
        config, list(pytorch_parameters(ours.module())), images, labels,
        np.asarray(image.mean), np.asarray(image.deviation), rates,
    )  # fmt: skip
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=pytorch_process, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()  # so that a failure there ends the waiting here
    variants, pytorch_params = connection.recv()

    def pytorch(request: str, batches: np.ndarray) -> Any:
        connection.send((request, batches))
        return connection.recv()

    batch = ours.next_batches()[0]
    inputs, _ = gather(data, jnp.asarray(batch))
    difference = float(np.abs(ours.module()(inputs).logits - pytorch("logits", batch)).max())
    same = pytorch_params == ours.program.params and difference < TOLERANCE
    console = Console()
    console.print(f"parameters: {ours.program.params:,} here, {pytorch_params:,} in PyTorch")
    console.print(f"largest difference of initial logits: {difference:.1e} (at most {TOLERANCE:.0e})")
    if not same:
        print("the two networks differ: no comparison", file=sys.stderr)
        return 1
    turns = {name: [] for name in ("fusion_bench", *variants)}
    for _ in range(1 + config.repetitions):
        batches = ours.next_batches()
        for name in turns:
            time.sleep(PAUSE)
            turns[name].append(ours.train() if name == "fusion_bench" else pytorch(name, batches))
    connection.send(None)
    process.join()
    report(console, config, {name: np.array(results) for name, results in turns.items()})
    return 0


def report(console: Console, config: Config, turns: dict[str, np.ndarray]) -> None:
    """Prints examples per second and the ratio turn by turn, without the first turn; each side's loss from there."""
    speeds = {n: config.steps * config.batch_size / seconds[1:, 0] for n, seconds in turns.items()}
    table = Table(
        "", "examples/s", "lowest to highest", "fusion_bench / it", "lowest to highest", "loss of turn 1"
    )
    ratios = {name: speeds["fusion_bench"] / speed for name, speed in speeds.items()}
    for name, speed in speeds.items():
        ratio = ratios[name]
        table.add_row(
            name if name == "fusion_bench" else f"PyTorch, {name}",
            f"{np.median(speed):,.0f}", f"{speed.min():,.0f} to {speed.max():,.0f}",
            f"{np.median(ratio):.2f}", f"{ratio.min():.2f} to {ratio.max():.2f}", f"{turns[name][0, 1]:.4f}",
        )  # fmt: skip
    console.print(table)
    best = max((name for name in speeds if name != "fusion_bench"), key=lambda name: np.median(speeds[name]))
    console.print(
        f"ratio to the better one, {best}: {np.median(ratios[best]):.2f}"
        f" (jax {jax.__version__}, batch {config.batch_size}, {config.repetitions} repetitions)"
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
