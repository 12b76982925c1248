"""A study's configuration: frozen dataclasses, one a concern, checked when they are built. A run records them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from fusion_bench.errors import ConfigError
from fusion_bench.fields import Checked, Count, NameOrPath, Natural, NonNegative, Positive, Probability, Rule

EncoderSize = Literal["micro", "tiny", "small", "resnet9"]
TextEncoderKind = Literal["pooled", "transformer"]
TokenizerKind = Literal["word", "bpe", "characters"]
Match = Literal["none", "params", "flops"]


@dataclasses.dataclass(frozen=True)
class Choice(Checked):
    """A name in `fusion-bench list`, with options that replace the defaults: `Choice("tensor", {"width": 8})`."""

    name: str
    options: Mapping[str, int | float | str | bool] = dataclasses.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, *sorted(self.options.items())))

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{name}={value}" for name, value in self.options.items())])


def as_choice(item: str | Choice) -> Choice:
    """Returns the choice that a bare name stands for."""
    return Choice(item) if isinstance(item, str) else item


@dataclasses.dataclass(frozen=True)
class DataConfig(Checked):
    """The data: images, captions, splits."""

    source: NameOrPath = "shapes"
    """Source of images and labels."""
    data_dir: Path | None = None
    """Directory of prepared TFDS data or recordings, or in which to prepare them."""
    captions: NameOrPath = "auto"
    """A caption channel, an option follows a colon (half:named=0.2); human:FILE, about what people called each image; a
    csv, tsv, jsonl or parquet file; or none. auto: the channel default, or none if the data have several modalities."""
    audio: bool = False
    """Add the third modality of `shapes`, a small spectrogram-like grid."""
    train_size: Count | None = None
    """Keep only N examples for training and validation together, in the classes' proportions."""
    test_size: Count | None = None
    """Keep only N test examples, in the classes' proportions."""
    validation_fraction: Annotated[float, Rule("between 0 and 1", lambda value: 0 < value < 1)] = 0.1
    """Fraction of the training data that is held out if the data have no validation split."""
    data_seed: Natural = 0
    """Seed of the split and the captions; runs with the same one are paired."""
    cache_dir: Path | None = None
    """Directory in which decoded images are cached."""
    image_size: Count | None = None
    """Resize every image of a TFDS set to N x N pixels."""
    tokenizer: TokenizerKind | Literal["auto"] = "auto"
    """Units of text; auto is words, or parts of words or characters if there are no spaces between words."""
    max_tokens: Count = 128
    """Cut texts after N tokens."""
    augment: Literal["auto"] | tuple[Literal["flip", "translate"], ...] = "auto"
    """Random transformations of training images: flip, translate. auto: those that the source declares safe."""
    modalities: tuple[str, ...] = ()
    """Read only these arrays of a file."""
    kinds: Mapping[str, Literal["grid", "tokens", "sequence", "vector", "text"]] = dataclasses.field(
        default_factory=dict
    )
    """Kind of each array of a file that could have several kinds: {"counts": "vector"}."""
    misalign: Probability = 0.0
    """Probability that a training example gets the text of another one; its label stays with the image."""
    missing: Probability = 0.0
    """Probability that a modality is missing from a training example; one at least is there."""
    test_from: Literal["test", "train"] = "test"
    """Split of the source that the test examples are drawn from; train leaves its own test split unused."""

    def __hash__(self) -> int:
        return hash((self.source, self.captions, self.data_seed, self.train_size, self.test_size))


@dataclasses.dataclass(frozen=True)
class ModelConfig(Checked):
    """The encoders, the same in every strategy."""

    encoder: EncoderSize = "tiny"
    """Size: micro for smoke runs and tests, tiny for a quick table, small for a CPU, resnet9 for accelerators."""
    text_encoder: TextEncoderKind = "pooled"
    """Encoder of texts and sequences: pooled is the mean over words, or over steps after a convolution."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of computation; auto is float32 on a CPU, bfloat16 elsewhere. Parameters are always float32."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Checked):
    """The budget and the optimiser, the same for every strategy."""

    epochs: Count = 4
    """Passes over the training examples."""
    batch_size: Count = 64
    """Examples in one update."""
    optimizer: Literal["adamw", "nesterov", "muon"] = "adamw"
    """nesterov is gradient descent with Nesterov momentum; muon orthogonalises the updates of kernels."""
    learning_rate: Positive = 0.003
    """Peak of the schedule."""
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    """one-cycle rises for a quarter of the steps, then falls along a cosine; cosine only falls."""
    bias_rate: Positive = 1.0
    """Multiplier on the learning rate of biases and normalisation scales."""
    weight_decay: NonNegative = 0.2
    """Decoupled from the gradient, on matrices and kernels only."""
    label_smoothing: Annotated[float, Rule("at least 0 and below 1", lambda value: 0 <= value < 1)] = 0.1
    """Fraction of each label's probability that is spread over all classes."""
    flip: Literal["random", "alternating"] = "random"
    """random flips independently in each epoch; alternating flips each image in every other epoch."""
    select: Literal["best", "last"] = "best"
    """Test the epoch with the best validation accuracy, or the last one."""
    remedy: Choice = Choice("none")
    """Remedy that a run is trained with; a study sets it from `BenchmarkConfig.remedies`."""

    def __post_init__(self) -> None:
        if isinstance(self.remedy, str):
            object.__setattr__(self, "remedy", Choice(self.remedy))
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class MeasurementConfig(Checked):
    """Timing of costs; no part of a run's identity."""

    seconds: Positive = 0.1
    """Approximate duration of one timed pass, in seconds."""
    repetitions: Count = 5
    """Timed passes; their median is reported, with the lowest and the highest."""
    latencies: Count = 100
    """Predictions of one example that are timed, at least."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Checked):
    """Frequency of checkpoints and progress; no part of a run's identity."""

    save_seconds: NonNegative = 60.0
    """Seconds after which the state is saved at the end of an epoch."""
    chunks_per_epoch: Count = 4
    """Compiled calls per epoch; after each, progress is shown and the loss is checked."""


@dataclasses.dataclass(frozen=True)
class ClusterConfig(Checked):
    """The cluster that a study is trained on; no part of a run's identity."""

    on: Literal["here", "ray"] = "here"
    """Train in processes of this machine (here), or in tasks of a Ray cluster (ray)."""
    ray_address: str = ""
    """Address of the Ray cluster, or auto; without one, Ray starts on this machine."""
    cpus_per_run: Count = 1
    """Cores of one training in a Ray cluster."""
    gpus_per_run: Annotated[
        float, Rule("at least 0, and whole above 1", lambda value: value >= 0 and (value <= 1 or value % 1 == 0))
    ] = 0.0
    """GPUs of one training in a Ray cluster; a fraction gets that share of the GPU's memory."""
    load_on_nodes: bool = False
    """Let each node of the Ray cluster load the data from its own disk instead of receiving them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            if self.on == "here" and getattr(self, field.name) != field.default:
                raise ConfigError(field.name, getattr(self, field.name), "it does nothing without Ray")


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig(Checked):
    """One study: strategies × seeds on one dataset."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    strategies: tuple[str | Choice, ...] = ("canonical",)
    """Names, or names with options: ("concat", StrategySpec("tensor", {"width": 8})). canonical and all are sets."""
    remedies: tuple[str | Choice, ...] = ("none",)
    """Remedies for imbalance between modalities in training; every fusion strategy is trained with each."""
    match: Match = "none"
    """Choose each strategy's width so that its parameters, or its training FLOPs, equal those of one strategy."""
    match_to: str | Choice = "tensor"
    """The strategy that the others are matched to."""
    tune: Natural = 0
    """Choose each strategy's learning rate and weight decay: the best of N trials on validation, the same for all."""
    seeds: Count = 3
    """Number of seeds; every strategy is trained with each."""
    devices: Count | Literal["all"] = 1
    """Divide every batch among N devices."""
    workers: Count | Literal["auto"] = "auto"
    """Train in N processes side by side, each on its own cores. auto: one per core on a CPU, else one."""
    retries: Natural = 2
    """Number of repetitions of a training whose process died."""
    cluster: ClusterConfig = ClusterConfig()
    out: Path = Path("runs/default")
    """Directory of runs and tables. A run that is complete there is not repeated."""
    tensorboard: bool = False
    """Also write learning curves to DIR/tensorboard during training, as TensorBoard event files."""
    measurement: MeasurementConfig = MeasurementConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.remedy.name != "none":
            raise ConfigError("remedy", self.training.remedy, "a study takes it from `remedies`")
        if not self.remedies:
            raise ConfigError("remedies", "()", "it must have one at least, for example none")
        if self.match == "none" and self.match_to != BenchmarkConfig.match_to:
            raise ConfigError("match_to", self.match_to, "it does nothing where strategies are not matched")
        if self.devices != 1 and self.workers not in ("auto", 1):
            raise ConfigError("workers", self.workers, "several devices need a single process; use 1 or auto")
        if self.devices != 1 and self.cluster.on != "here":
            raise ConfigError("devices", self.devices, "a training on a cluster has one device")
