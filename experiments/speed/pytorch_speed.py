"""How fast are training and prediction relative to the same networks in PyTorch, on two CPU cores?

    pip install torch==2.13.0                 # an optional comparison: nothing else needs PyTorch
    python experiments/speed/pytorch_speed.py [--strategies image-only concat --encoder small --batch-size 128]

Each strategy is trained by the project's own compiled program, and the same network (pytorch_networks.py) by PyTorch:
eager with channels last, and under torch.compile. Batch, optimiser, schedule, label smoothing and order of examples
are the same, augmentation is off, inputs are integers in memory, and each side has two threads. Then single examples
are predicted repeatedly: here by a program with constant weights, there in inference mode, eager, compiled, and
compiled with frozen weights. PyTorch has its own process, and the two sides are timed in turn, so that a ratio compares
times that are close to each other. The equality of the networks is checked first.

Found on two cores of an AMD EPYC, idle, with `small`, batch 128, 7 turns, jax 0.10.2, torch 2.13.0, package of commit
5707beb7d3, against the better of eager and compiled PyTorch, medians: training 1.38 times as fast (image-only), 1.50
(concat), 1.53 (tensor), 1.45 (low-rank); one prediction takes 0.68, 0.75, 0.76 and 0.74 of its time.

What contributed to it with jax 0.10, and what did not:

- Winograd tiles of 4×4 instead of 2×2 outputs: 2.25 multiplications instead of 4 for 9 (float32 only).
- The library for matrix products (`compiler_options` in training/lowering.py): XLA's new default is slow at batches of
  medium matrices and good at sums, so it is used only for sums.
- Prediction in batches of 100 instead of 500, so that feature maps stay in the cache.
- Constant weights in the program of a single prediction, so that kernels are transformed once.
- Not used: channels before tiles in memory, which speeds up the products but makes every transform work on a strided
  axis; and the flags of oneDNN, fast-math and XNNPACK, whose effect is within noise.
"""

# What PyTorch's types make of a dynamic module is checked only where it is installed.
# pyright: reportArgumentType=false, reportCallIssue=false

import dataclasses
import importlib.util
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
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
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.models.cnn import PatchStageSpec
from fusion_bench.models.encoders import WIDTHS
from fusion_bench.training.compile import Program, compile_fixed, compile_program
from fusion_bench.training.optimizer import make_schedule
from fusion_bench.training.step import epoch_order

THREADS = 2
EXAMPLES = 2560  # in one turn of training
PREDICTIONS = 300  # in one turn, of one example each
TURNS_PER_EPOCH = 4
CLASSES = 10
WORDS, VOCABULARY = 12, 60
TOLERANCE = 1e-4  # of logits in training mode
PAUSE = 0.3  # seconds in which the other side's threads stop spinning
OURS = "fusion_bench"

Turn = Literal["train", "predict"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares speed of training and of prediction with PyTorch's, on two CPU threads."""

    strategies: tuple[str, ...] = ("image-only", "concat", "tensor", "low-rank")
    """Of the canonical ones and low-rank."""
    encoder: Literal["tiny", "small"] = "small"
    """Size of every encoder."""
    batch_size: int = 128
    """Examples in an update, on both sides."""
    repetitions: int = 7
    """Timed turns of each side."""

    @property
    def steps(self) -> int:
        """Updates in one turn."""
        return max(1, EXAMPLES // self.batch_size)

    @property
    def num_train(self) -> int:
        return self.steps * self.batch_size * TURNS_PER_EPOCH

    @property
    def training(self) -> TrainingConfig:
        epochs = math.ceil((1 + self.repetitions) / TURNS_PER_EPOCH)  # one turn warms up
        return TrainingConfig(epochs=epochs, batch_size=self.batch_size)


@dataclasses.dataclass(frozen=True)
class Job:
    """Input of the PyTorch process: the network, its first values, the data, the budget."""

    strategy: str
    sizes: Mapping[str, Any]
    values: Mapping[str, np.ndarray]
    images: np.ndarray
    texts: np.ndarray
    labels: np.ndarray
    training: TrainingConfig
    learning_rates: list[float]


def pytorch_process(connection: Connection, job: Job) -> None:
    """Answers requests (what, variant, indices).

    First come the number of parameters and the variants of each turn; then "logits" with those of the eager network in
    training mode, "train" with (seconds, mean loss), and "predict" with the median of seconds of one example.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from pytorch_networks import Sizes, load, make_network

    torch.set_num_threads(THREADS)
    images, texts = torch.from_numpy(job.images), torch.from_numpy(job.texts)
    compilers = {"eager": lambda function: function}
    if shutil.which(os.environ.get("CXX", "g++")):  # torch.compile needs it
        compilers["compile"] = torch.compile
        compilers["compile, frozen"] = lambda function: torch.compile(function, options={"freezing": True})
    trained = [variant for variant in compilers if "frozen" not in variant]

    def inputs(batch):
        return {"image": ((images[batch].float() - 127.5) / 73.9).permute(0, 3, 1, 2), "text": texts[batch]}

    def network():
        made = make_network(job.strategy, Sizes(**job.sizes))
        load(made, job.values)
        return made

    def predictor(variant: str) -> Callable[[np.ndarray], np.ndarray]:
        made = network().eval()
        predict = compilers[variant](lambda batch: made(inputs(batch)))
        return lambda index: predict(torch.from_numpy(index)).numpy()

    trainers = {v: pytorch_trainer(network(), inputs, compilers[v], job) for v in trained}
    predictors = {variant: predictor(variant) for variant in compilers}
    first = network()
    params = sum(parameter.numel() for parameter in first.parameters())
    connection.send((params, {"train": trained, "predict": list(compilers)}))
    for what, variant, indices in iter(connection.recv, None):
        if what == "train":
            connection.send(trainers[variant](torch.from_numpy(indices)))
        elif what == "predict":
            with torch.inference_mode():
                connection.send((seconds_of_one(predictors[variant], indices), 0.0))
        else:
            with torch.no_grad():
                connection.send(first(inputs(torch.from_numpy(indices))).numpy())


def pytorch_trainer(
    network: Any, inputs: Callable[[Any], Any], compiler: Callable[[Any], Any], job: Job
) -> Callable[[Any], tuple[float, float]]:
    """Returns a function that trains on batches and returns its duration and the mean loss."""
    import torch  # pyright: ignore[reportMissingImports]

    training, labels = job.training, torch.from_numpy(job.labels).long()
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.99), fused=True)
    learning_rates = iter(job.learning_rates)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
    loss_fn = compiler(lambda batch: cross_entropy(network(inputs(batch)), labels[batch]))

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


def seconds_of_one(predict: Callable[[np.ndarray], np.ndarray], indices: np.ndarray) -> float:
    """Returns the median time of one prediction of one example, in seconds."""
    seconds = []
    for index in indices:
        start = time.perf_counter()
        predict(index[None])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


class Ours:
    """The project's own side: the compiled program of a strategy, and the state of its training."""

    def __init__(self, strategy: str, config: Config, data: DeviceData):
        task = Task(
            {"image": ModalitySpec("grid", (32, 32, 3)), "text": ModalitySpec("tokens", (WORDS,), VOCABULARY)}, CLASSES
        )
        spec = StrategySpec(strategy)
        model = ModelConfig(encoder=config.encoder, dtype="float32")
        self.program: Program = compile_program(spec, task, model, config.training, data, config.num_train)
        self.steps, self.data = config.steps, data
        self.indices, self.seed = np.arange(config.num_train, dtype=np.int32), jnp.int32(0)
        self.state = self.program.init(self.seed)
        self.fixed = compile_fixed(self.program.graph, self.state.variables, data, 1)

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

    def train(self, batches: np.ndarray) -> tuple[float, float]:
        """Takes the turn of these batches, which are the next; returns its seconds and its mean loss."""
        start = time.perf_counter()
        self.state, loss = jax.block_until_ready(
            self.program.train(self.state, self.data, self.order, self.seed, jnp.int32(len(batches)))
        )
        return time.perf_counter() - start, float(loss)

    def predict(self, indices: np.ndarray) -> tuple[float, float]:
        """Returns the median time of one prediction, in seconds, and zero."""
        return seconds_of_one(self._predict_one, indices), 0.0

    def _predict_one(self, index: np.ndarray) -> np.ndarray:
        return np.asarray(self.fixed(self.data, index))


def make_data(num_examples: int) -> tuple[DeviceData, np.ndarray, np.ndarray, np.ndarray]:
    """Returns random images of CIFAR-10's shape and texts with labels, for us and for PyTorch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_examples, 32, 32, 3), np.uint8)
    texts = rng.integers(0, VOCABULARY, (num_examples, WORDS), np.int32)
    labels = rng.integers(0, CLASSES, num_examples, np.int32)
    image = DeviceModality(jnp.asarray(images), jnp.full(3, 127.5), jnp.full(3, 73.9))
    text = DeviceModality(jnp.asarray(texts), jnp.zeros(0), jnp.ones(0))
    return DeviceData({"image": image, "text": text}, jnp.asarray(labels)), images, texts, labels


def sizes_of(config: Config) -> dict[str, Any]:
    """Returns what `pytorch_networks.Sizes` takes."""
    widths = WIDTHS[config.encoder]
    stages = tuple((s.patch, s.width, s.blocks) for s in widths.stages if isinstance(s, PatchStageSpec))
    names = ("features", "hidden", "tokens", "layers", "patch")
    return {name: getattr(widths, name) for name in names} | {
        "stages": stages, "vocabulary": VOCABULARY, "words": WORDS, "classes": CLASSES,
    }  # fmt: skip


def compare(strategy: str, config: Config, console: Console) -> dict[Turn, dict[str, np.ndarray]]:
    """Times both sides in turn; returns (seconds, loss) of each turn after the first, by side.

    Raises:
      ValueError: the networks differ.
    """
    data, images, texts, labels = make_data(config.num_train)
    ours = Ours(strategy, config, data)
    schedule = make_schedule(config.training, ours.program.steps_per_epoch * config.training.epochs)
    rates = np.asarray(jax.vmap(schedule)(jnp.arange(config.steps * (1 + config.repetitions)))).tolist()
    parameters = nnx.to_flat_state(nnx.state(ours.module(), nnx.Param))
    values = {".".join(map(str, path)): np.asarray(variable[...]) for path, variable in parameters}
    job = Job(strategy, sizes_of(config), values, images, texts, labels, config.training, rates)
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=pytorch_process, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()  # so that a failure there ends the waiting here
    params, variants = connection.recv()

    def pytorch(what: str, variant: str, indices: np.ndarray) -> Any:
        connection.send((what, variant, indices))
        return connection.recv()

    batch = ours.next_batches()[0]
    inputs, _ = gather(data, jnp.asarray(batch))
    difference = float(np.abs(ours.module()(inputs).logits - pytorch("logits", "", batch)).max())
    console.print(
        f"{strategy}: {ours.program.params:,} parameters here, {params:,} in PyTorch; largest difference of initial "
        f"logits {difference:.1e} (at most {TOLERANCE:.0e})"
    )
    if params != ours.program.params or not difference < TOLERANCE:
        raise ValueError(f"{strategy}: the two networks differ, no comparison")
    turns: dict[Turn, dict[str, list]] = {
        kind: {name: [] for name in (OURS, *variants[kind])} for kind in ("train", "predict")
    }
    for _ in range(1 + config.repetitions):
        batches, ones = ours.next_batches(), np.arange(PREDICTIONS, dtype=np.int32)
        for kind, sides in turns.items():
            indices, own = (batches, ours.train) if kind == "train" else (ones, ours.predict)
            for name, results in sides.items():
                time.sleep(PAUSE)
                results.append(own(indices) if name == OURS else pytorch(kind, name, indices))
    connection.send(None)
    process.join()
    return {kind: {name: np.array(r)[1:] for name, r in sides.items()} for kind, sides in turns.items()}


def rows(strategy: str, config: Config, turns: dict[Turn, dict[str, np.ndarray]]) -> list[list[str]]:
    """Returns the rows of a strategy: quantity, side, value, and its ratio to ours by turn."""
    lines = []
    examples = config.steps * config.batch_size
    for kind, sides in turns.items():
        for name, results in sides.items():
            seconds, losses = results.T
            ratio = seconds / sides[OURS][:, 0]  # how many times faster we are
            shown = examples / seconds if kind == "train" else 1e6 * seconds
            lines.append(
                [
                    strategy,
                    "training, examples/s" if kind == "train" else "one prediction, μs",
                    name if name == OURS else f"PyTorch, {name}",
                    f"{np.median(shown):,.0f}",
                    f"{shown.min():,.0f} to {shown.max():,.0f}",
                    f"{np.median(ratio):.2f}",
                    f"{ratio.min():.2f} to {ratio.max():.2f}",
                    f"{losses[0]:.4f}" if kind == "train" else "",
                ]
            )
    return lines


def main(config: Config) -> int:
    """Compares the strategies one by one and prints the table. Returns the exit status."""
    if importlib.util.find_spec("torch") is None:
        print("this comparison needs PyTorch: pip install torch==2.13.0", file=sys.stderr)
        return 2
    if hasattr(os, "sched_setaffinity"):  # two threads, on a machine of many cores too
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    jax.config.update("jax_platforms", "cpu")
    console = Console(width=max(120, Console().width))
    table = Table("", "", "", "median", "lowest to highest", "times slower", "lowest to highest", "loss")
    summary = []
    for strategy in config.strategies:
        turns = compare(strategy, config, console)
        for row in rows(strategy, config, turns):
            table.add_row(*row)
        table.add_section()
        training, latency = (
            min(np.median(r[:, 0] / sides[OURS][:, 0]) for n, r in sides.items() if n in ("eager", "compile"))
            for sides in (turns["train"], turns["predict"])
        )
        summary.append(f"{strategy}: training {training:.2f} × as fast, latency {1 / latency:.2f} ×")
    console.print(table)
    console.print("Against the better of eager and compiled PyTorch:", *summary, sep="\n  ")
    console.print(
        f"{config.encoder}, batch {config.batch_size}, {config.repetitions} turns, jax {jax.__version__}, "
        f"{THREADS} threads"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
