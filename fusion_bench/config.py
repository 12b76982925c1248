"""A study's configuration: frozen dataclasses, one a concern. The command line shows them, a run records them."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fusion_bench.errors import UserError

Option = tyro.conf.arg


def _option(metavar: str, default: str) -> Any:
    """An option whose default is None, which its help calls by what it means."""
    return Option(metavar=metavar, help_behavior_hint=f"(default: {default})")


EncoderSize = Literal["tiny", "small", "resnet9"]
TextEncoderKind = Literal["pooled", "transformer"]
Match = Literal["none", "params", "flops"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """A registered name with options of its own: `Choice("tensor", {"width": 8})`.

    Attributes:
      name: of a strategy, a remedy, and so on, as in `fusion-bench list`.
      options: values that replace the defaults.
    """

    name: str
    options: Mapping[str, int | float | str | bool] = dataclasses.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, *sorted(self.options.items())))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The data: images, captions, splits."""

    source: Annotated[str, Option(name="data", metavar="shapes|cifar10|FILE.npz")] = "shapes"
    """Where images and labels come from."""
    data_dir: Annotated[Path | None, _option("DIR", "$TFDS_DATA_DIR, else TFDS's own")] = None
    """A prepared TFDS directory, or where to prepare one."""
    captions: Annotated[str, Option(metavar="NAME|FILE")] = "default"
    """A caption channel, as it is or changed (half:named=0.2), or a CSV or Parquet file with columns id and caption."""
    audio: bool = False
    """Add the third modality of `shapes`, a small spectrogram-like grid."""
    train_size: Annotated[int | None, _option("N", "all")] = None
    """Keep only N examples for training and validation together, in the classes' proportions."""
    test_size: Annotated[int | None, _option("N", "all")] = None
    """Keep only N test examples, in the classes' proportions."""
    validation_fraction: float = 0.1
    """The part of the training data that is held out, where the data bring no validation split."""
    data_seed: int = 0
    """Seeds the split and the captions; runs that share it are paired."""
    cache_dir: Annotated[
        Path | None, _option("DIR", "$FUSION_BENCH_CACHE_DIR, else the user's cache directory")
    ] = None
    """Where decoded images are kept."""
    image_size: Annotated[int | None, _option("N", "their own size")] = None
    """Resize every image of a TFDS set to N x N pixels."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The encoders, the same in every strategy."""

    encoder: EncoderSize = "tiny"
    """Size of every encoder: tiny for a quick table, small for studies on a CPU, resnet9 for accelerators."""
    text_encoder: TextEncoderKind = "pooled"
    """How a text becomes features: the mean over its words, or a small transformer."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What layers compute in; auto is float32 on a CPU, bfloat16 elsewhere. Parameters are float32 always."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The budget and the optimiser, the same for every strategy."""

    epochs: int = 4
    """Passes over the training examples."""
    batch_size: int = 64
    """Examples in one update."""
    optimizer: Literal["adamw", "nesterov", "muon"] = "adamw"
    """adamw; nesterov is gradient descent with momentum; muon makes the updates of kernels orthogonal."""
    learning_rate: float = 0.003
    """Peak of the schedule."""
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    """one-cycle rises for a quarter of the steps, then falls along a cosine; cosine only falls."""
    bias_rate: float = 1.0
    """Learning rate of biases and of scales of norms, as a factor of the others'."""
    weight_decay: float = 0.2
    """Decoupled from the gradient, on matrices and kernels only."""
    label_smoothing: float = 0.1
    """The part of each target that is spread over all classes."""
    augment: Annotated[bool, Option(help="Do not flip and translate images.", help_behavior_hint="")] = True
    """Flip and translate images at random."""
    flip: Literal["random", "alternating"] = "random"
    """random draws each time; alternating shows an image the other way round in every other epoch."""
    select: Literal["best", "last"] = "best"
    """Test the epoch with the best validation accuracy, or the last one."""
    remedy: tyro.conf.Suppress[Choice] = Choice("none")
    """Treatment of imbalance between modalities; see `fusion-bench list`."""


@dataclasses.dataclass(frozen=True)
class MeasurementConfig:
    """How costs are timed; no part of a run's identity."""

    seconds: float = 0.1
    """Seconds that one timed pass aims at."""
    repetitions: int = 5
    """Timed passes; their median is reported, with the lowest and the highest."""
    latencies: int = 100
    """Predictions of one example that are timed, at least."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """How often the host is given the state of a training; no part of a run's identity."""

    save_seconds: float = 60.0
    """Seconds after which the state is saved at the end of an epoch."""
    chunks_per_epoch: int = 4
    """Compiled calls an epoch, after each of which progress is shown and the loss checked."""


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """One study: strategies × seeds on one dataset."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    strategies: Annotated[str, Option(metavar="a,b|canonical|all")] = "canonical"
    """Names, comma-separated; an option of a strategy follows a colon: tensor:width=8."""
    match: Match = "none"
    """Choose each strategy's width so that it has as many parameters, or takes as many FLOPs, as --match-to."""
    match_to: Annotated[str, Option(metavar="STRATEGY")] = "tensor"
    """What --match takes its target from."""
    tune: Annotated[int, Option(metavar="N")] = 0
    """Choose each strategy's learning rate and weight decay on validation, the best of N settings, the same for all."""
    seeds: Annotated[int, Option(metavar="N")] = 3
    """Number of seeds; every strategy is trained with each."""
    devices: Annotated[int | Literal["all"], Option(metavar="N|all")] = 1
    """Divide every batch among N devices."""
    out: Annotated[Path, Option(metavar="DIR")] = Path("runs/default")
    """Where runs and tables go. A run that is complete there is not repeated."""
    measurement: MeasurementConfig = MeasurementConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tensorboard: bool = False
    """Also write learning curves to DIR/tensorboard as the epochs go, as TensorBoard event files."""


def check(config: BenchmarkConfig) -> None:
    """Raises UserError if a number in the configuration is out of range."""
    training = config.training
    devices = 1 if config.devices == "all" else config.devices
    counts = {
        "seeds": config.seeds,
        "devices": devices,
        "epochs": training.epochs,
        "batch-size": training.batch_size,
    }
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    if not 0 < training.learning_rate < math.inf:
        raise UserError(f"--learning-rate is {training.learning_rate}; it must be finite and above 0")
    if not 0 <= training.weight_decay < math.inf:
        raise UserError(f"--weight-decay is {training.weight_decay}; it must be finite and at least 0")
    if not 0 < training.bias_rate < math.inf:
        raise UserError(f"--bias-rate is {training.bias_rate}; it must be finite and above 0")
    if training.flip != "random" and not training.augment:
        raise UserError(f"--flip {training.flip} does nothing with --no-augment")
    if not 0 <= training.label_smoothing < 1:
        raise UserError(f"--label-smoothing is {training.label_smoothing}; it must be at least 0 and below 1")
    if config.tune < 0:
        raise UserError(f"--tune is {config.tune}; it must be at least 0")
    if config.data.data_seed < 0:
        raise UserError(f"--data-seed is {config.data.data_seed}; it must be at least 0")
