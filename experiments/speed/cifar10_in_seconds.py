"""How many seconds does an image model need for CIFAR-10, and which ideas of the fast recipes help?

    python experiments/speed/cifar10_in_seconds.py --data-dir DIR [--seeds 5] [--ablate] [--out DIR] [--quick]

`image-only` with `resnet9`, in bfloat16 on accelerators, and the ideas of the published single-GPU recipes: a first
layer that is initialised to whiten patches of the training images (Page 2018), label smoothing, alternating flips and a
higher learning rate for biases (Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024), and Muon (Jordan et
al. 2024). It prints validation accuracy by seconds of training, without compilation; then test accuracy, examples per
second, and model FLOPs utilisation: three times XLA's count of the forward pass, the operations of a training step,
relative to this device's fastest matrix product. The whitening is estimated before the clock starts. --ablate leaves
out one idea at a time, paired by seed.

The published recipes also average weights or predictions of mirrored images, and train on all 50,000 images. Here a
tenth is held out, and the last epoch is tested once. Not run on an accelerator so far.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from jaxtyping import Array, Float
from rich.console import Console
from rich.markdown import Markdown

from fusion_bench.config import DataConfig, EncoderSize, ModelConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData, normalization_stats, to_device
from fusion_bench.data.dataset import Dataset
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy
from fusion_bench.metrics.intervals import Interval, paired_interval, t_interval
from fusion_bench.models.encoders import compute_dtype
from fusion_bench.report.listing import markdown_table
from fusion_bench.speed.ceilings import fastest_matmul
from fusion_bench.study.provenance import describe_environment
from fusion_bench.training.compile import compile_program
from fusion_bench.training.loop import train
from fusion_bench.training.step import TrainState
from fusion_bench.training.timing import train_loop

Initialiser = Callable[..., TrainState]  # as Program.init
HEADER = ["", "test, %", "against the whole", "seconds", "examples/s", "MFU, %", "compile s"]
REPETITIONS = 5
NOISE = 0.01
"""Added to the variance of each direction before whitening; smaller variances count as noise."""
IMAGES = 2000
"""Number of images from whose patches the whitening is estimated."""
USUAL = TrainingConfig()
WHOLE = "all ideas"
IDEAS: Mapping[str, dict[str, Any]] = {
    "whitening": {},
    "label smoothing": {"label_smoothing": 0.0},
    "alternating flips": {"flip": "random"},
    "bias rate": {"bias_rate": 1.0},
    "Muon": {"optimizer": "adamw", "learning_rate": USUAL.learning_rate, "weight_decay": USUAL.weight_decay},
}
"""The ideas, each with the configuration without it."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains an image model as fast as it goes."""

    data: str = "cifar10"
    """cifar10, shapes, or a file."""
    data_dir: Path | None = None
    """A prepared TFDS directory."""
    train_size: int | None = None
    """Keep only this number of examples for training and validation."""
    encoder: EncoderSize = "resnet9"
    """The CNN."""
    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 500
    """Images in an update."""
    learning_rate: float = 0.01
    """Muon's peak."""
    weight_decay: float = 0.1
    """With Muon."""
    bias_rate: float = 4.0
    """Learning rate of biases and scales, as a factor."""
    seeds: int = 5
    """Trainings of each variant."""
    ablate: bool = False
    """Also train without each of the ideas."""
    target: float = 0.94
    """Validation accuracy for which the seconds of training are reported."""
    out: Path | None = None
    """Also write table.md there."""
    quick: bool = False
    """Train the smallest network for one epoch on a few images, as a smoke test."""

    def training(self, without: str | None) -> TrainingConfig:
        """Returns the recipe, without one idea."""
        recipe = TrainingConfig(
            epochs=self.epochs, batch_size=self.batch_size, optimizer="muon", learning_rate=self.learning_rate,
            bias_rate=self.bias_rate, weight_decay=self.weight_decay, label_smoothing=0.2, flip="alternating",
            select="last",
        )  # fmt: skip
        return dataclasses.replace(recipe, **IDEAS[without]) if without else recipe


@dataclasses.dataclass(frozen=True)
class Result:
    """Results of one variant.

    Attributes:
      seconds: of training, by seed.
      curves: validation accuracy after each epoch, [seed, epoch].
      test: accuracy by seed.
      examples_per_s: in a timed pass.
      flops: of a training example: three times those of the forward pass.
      compile_seconds: of its program.
    """

    seconds: list[float]
    curves: Float[np.ndarray, "seed epoch"]
    test: dict[int, float]
    examples_per_s: float
    flops: float
    compile_seconds: float


def patches_of(dataset: Dataset, side: int, stride: int) -> Float[np.ndarray, "patch feature"]:
    """Returns standardised patches of training images, laid out as a layer's kernel is: row, column, channel."""
    train_images = dataset.splits["train"]
    mean, std = normalization_stats(dataset.modalities["image"], train_images)
    images = (dataset.modalities["image"].values[train_images[:IMAGES]] - mean) / std
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, side * side * images.shape[-1])


def whitening(patches: Float[np.ndarray, "patch feature"], count: int) -> Float[np.ndarray, "feature filter"]:
    """Returns up to `count` filters ±v / √(λ + noise), of the eigenpairs of the patches' covariance, largest first.

    Their responses to the patches, before the sign, have variance λ / (λ + noise) and no correlation.
    """
    centred = patches - patches.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(patches))
    filters = (directions / np.sqrt(variances + NOISE))[:, ::-1]
    both = np.stack([filters, -filters], axis=2).reshape(len(filters), -1)
    return both[:, :count].astype(np.float32)


def whiten_first_layer(init: Initialiser, dataset: Dataset) -> Initialiser:
    """Returns an initialisation whose first kernel whitens; surplus filters stay random."""
    params = init(np.int32(0)).variables.params
    leaves = jax.tree_util.tree_leaves_with_path(params)
    first, kernel = next((path, leaf) for path, leaf in leaves if is_first_kernel(path))
    channels = dataset.modalities["image"].values.shape[-1]
    side = round((np.prod(kernel.shape[:-1]) / channels) ** 0.5)
    is_stem = kernel.ndim == 2  # a linear map of patches that do not overlap
    filters = whitening(patches_of(dataset, side, side if is_stem else 1), kernel.shape[-1])

    def whitened(path: tuple[Any, ...], leaf: Array) -> Array:
        if path != first:
            return leaf
        flat = leaf.reshape(len(filters), -1)
        return flat.at[:, : filters.shape[1]].set(filters).reshape(leaf.shape)

    def whitened_init(seed: Any) -> TrainState:
        state = init(seed)
        params = jax.tree_util.tree_map_with_path(whitened, state.variables.params)
        return state._replace(variables=state.variables._replace(params=params))

    return whitened_init


def is_first_kernel(path: tuple[Any, ...]) -> bool:
    """Returns whether a parameter is the kernel of the first layer of a CNN's first stage."""
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    if names[-1] != "kernel" or "stages" not in names or "blocks" in names:
        return False
    return names[names.index("stages") + 1] == 0


def train_all(config: Config, without: str | None, dataset: Dataset, data: DeviceData) -> Result:
    """Trains one variant with every seed."""
    spec = StrategySpec("image-only")
    training, splits = config.training(without), dataset.splits
    program = compile_program(
        spec, dataset.task, ModelConfig(encoder=config.encoder), training, data, len(splits["train"])
    )
    if without != "whitening":
        program = dataclasses.replace(program, init=whiten_first_layer(program.init, dataset))
    timed = train_loop(program, data, splits["train"])
    seconds, curves, test = [], [], {}
    for seed in range(config.seeds):
        trained = train(program, data, splits, seed, training)
        seconds.append(trained.train_seconds)
        curves.append([epoch.validation_accuracy for epoch in trained.curve])
        logits = program.predictions(trained.variables, data, splits["test"])
        test[seed] = accuracy(logits, dataset.labels[splits["test"]])
    rate = float(np.median([timed.rate() for _ in range(REPETITIONS)]))
    flops = 3 * program.inference_flops
    return Result(seconds, np.array(curves), test, rate, flops, program.compile_seconds)


def percent(interval: Interval, sign: str = "") -> str:
    """Returns a mean with its interval, in percent or points."""
    width = "" if np.isnan(interval.half_width) else f" ± {100 * interval.half_width:.2f}"
    return f"{100 * interval.mean:{sign}.2f}{width}"


def learning_curve(result: Result) -> list[list[str]]:
    """Returns a row for each epoch: seconds of training until then, and validation accuracy, mean over seeds."""
    epochs = result.curves.shape[1]  # all take as long: the same program runs
    return [
        [str(epoch + 1), f"{np.mean(result.seconds) * (epoch + 1) / epochs:.2f}", percent(t_interval(accuracies))]
        for epoch, accuracies in enumerate(result.curves.T)
    ]


def seconds_to(result: Result, target: float) -> str:
    """Returns one line: the seconds of training after which the seeds reach the target on validation."""
    epochs = result.curves.shape[1]
    reached = [
        seconds * (int(np.argmax(curve >= target)) + 1) / epochs
        for seconds, curve in zip(result.seconds, result.curves, strict=True)
        if (curve >= target).any()
    ]
    when = f", after {min(reached):.2f} to {max(reached):.2f} s of training" if reached else ""
    return f"{100 * target:g} % on validation: {len(reached)} of {len(result.curves)} seeds{when}."


def variants(results: Mapping[str, Result], matmul_flops: float) -> list[list[str]]:
    """Returns a row for each variant, its accuracy paired by seed with that of the whole recipe."""
    whole = results[WHOLE]
    return [
        [
            name,
            percent(t_interval(list(result.test.values()))),
            "" if result is whole else percent(paired_interval(result.test, whole.test), "+"),
            f"{np.mean(result.seconds):.2f}",
            f"{result.examples_per_s:,.0f}",
            f"{100 * result.examples_per_s * result.flops / matmul_flops:.1f}",
            f"{result.compile_seconds:.1f}",
        ]
        for name, result in results.items()
    ]


def main(config: Config) -> int:
    """Trains every variant, prints the tables, and returns the exit status."""
    if config.quick:
        config = dataclasses.replace(
            config, data="shapes", train_size=600, encoder="micro", epochs=1, batch_size=50, seeds=2
        )
    dataset = load_dataset(DataConfig(config.data, config.data_dir, "neutral", train_size=config.train_size))
    data = to_device(dataset)
    results = {}
    for without in (None, *(IDEAS if config.ablate else ())):
        name = f"without {without}" if without else WHOLE
        print(f"training {config.seeds} seeds, {name}", file=sys.stderr)
        results[name] = train_all(config, without, dataset, data)
    dtype = compute_dtype(ModelConfig())
    matmul, size = fastest_matmul(dtype)
    matmul_flops = float(np.median([matmul.rate() for _ in range(REPETITIONS)]))
    splits, environment = dataset.splits, describe_environment()
    text = (
        f"{markdown_table(['epoch', 'seconds of training', 'validation, %'], learning_curve(results[WHOLE]))}\n"
        f"{markdown_table(HEADER, variants(results, matmul_flops))}\n"
        f"- {seconds_to(results[WHOLE], config.target)}\n"
        f"- {dataset.description}, {len(splits['train']):,} images to train, {config.epochs} epochs of batches of "
        f"{config.batch_size}, {len(splits['test']):,} to test; {config.encoder}, {dtype}; mean ± 95 % interval over "
        f"n = {config.seeds} seeds (Student's t).\n"
        f"- MFU: of {matmul_flops / 1e12:.3g} TFLOP/s, a matrix product of {size} × {size}. {environment['device']}, "
        f"jax {jax.__version__}, commit {environment['commit']}.\n"
    )
    Console(width=max(110, Console().width)).print(Markdown(text))
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "table.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
