"""What do the joins of tokens need to learn an interaction?

    python experiments/token_joins.py [--epochs 30] [--seeds 3] [--learning-rate 0.003] [--trials TRIAL …]

The target is that of `synergy` captions: the image's class plus a number in the text, which count only together. Every
trial is one strategy with one thing changed; all else, initial values and batches too, is equal.

- Normalisation: the joins batch-normalise the tokens that they read and the result that their head reads. Here
  either is left as it is, or both. `early-token` normalises embeddings by layer and its result by batch, and has a
  mean for each modality; with "one mean" its head reads the mean of these means.
- Start: `early-token` cuts the image into patches. Here it starts from an embedding of patches and a transformer that
  were trained as long with captions that shift nothing (`synergy:shift=0`), so that the image alone tells the target:
  they have seen no interaction. The embedding of words and the head start anew.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pandas as pd
import tyro
from flax import nnx

from fusion_bench.cli.choices import parse_choices
from fusion_bench.cli.flags import REGISTRY
from fusion_bench.config import DataConfig, EncoderSize, ModelConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.base import Strategy
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec, resolve
from fusion_bench.metrics.classification import accuracy
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report.listing import markdown_table
from fusion_bench.report.text import percent
from fusion_bench.training.compile import compile_program
from fusion_bench.training.loop import train
from fusion_bench.training.step import TrainState

INFORMED = "synergy:shift=0"


class AsIs(nnx.Module):
    """No normalisation."""

    def __call__(self, x: Any, mask: Any = None) -> Any:
        return x


class OneMean(nnx.Module):
    """norm([m; …; m]) with m the mean of the means of the modalities."""

    def __init__(self, norm: nnx.BatchNorm, modalities: int):
        self.norm = norm
        self.modalities = modalities

    def __call__(self, means: jax.Array) -> jax.Array:
        parts = jnp.split(means, self.modalities, axis=-1)
        return self.norm(jnp.concatenate([sum(parts) / self.modalities] * self.modalities, axis=-1))


def raw_tokens(module: Any) -> None:
    if hasattr(module, "norms"):
        module.norms = nnx.Dict({name: AsIs() for name in module.norms})
    else:
        for embedding in module.embeddings.values():
            embedding.norm = None


def raw_result(module: Any) -> None:
    module.norm = AsIs()


def raw_both(module: Any) -> None:
    raw_tokens(module)
    raw_result(module)


def one_mean(module: Any) -> None:
    module.norm = OneMean(module.norm, len(module.embeddings))


@dataclasses.dataclass(frozen=True)
class Changed(StrategySpec):
    """A strategy of which something is changed once it is built."""

    change: Callable[[Any], None] = lambda module: None

    def build(self, blueprint: Blueprint) -> Strategy:
        module = super().build(blueprint)
        self.change(module)
        return module


@dataclasses.dataclass(frozen=True)
class Trial:
    """A strategy, what is changed of it, and the captions with which its image part is trained before, if any."""

    label: str
    changed: str = "–"
    change: Callable[[Any], None] = lambda module: None
    before: str = ""


CHANGES = {"tokens not normalised": raw_tokens, "result not normalised": raw_result, "neither normalised": raw_both}
JOINS = ("cross-attention", "bottleneck", "early-token:stem=conv")
TRIALS = {
    **{f"{join} ({changed})": Trial(join, changed, change) for join in JOINS for changed, change in CHANGES.items()},
    **{join: Trial(join) for join in (*JOINS, "early-token")},
    "early-token:stem=conv (one mean)": Trial("early-token:stem=conv", "one mean", one_mean),
    "early-token (informed start)": Trial("early-token", "informed start", before=INFORMED),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains joins of tokens with one thing changed, on `shapes` or other images."""

    trials: tuple[str, ...] = tuple(sorted(TRIALS))
    """Names of trials: "early-token", "cross-attention (result not normalised)", …"""
    data: str = "shapes"
    """shapes, cifar10, or a file."""
    data_dir: Path | None = None
    """Directory of prepared TFDS data."""
    train_size: int | None = None
    """Keep only this number of examples for training and validation."""
    encoder: EncoderSize = "tiny"
    """Size of every encoder."""
    epochs: int = 30
    """Passes over the training examples, before and with `synergy` captions."""
    learning_rate: float = 0.003
    """Largest rate of the schedule."""
    seeds: int = 3
    """Number of seeds."""


def outcomes(trial: Trial, config: Config) -> list[float]:
    """Returns the test accuracy of a trial with each seed."""
    starts: list[Any] = [None] * config.seeds
    if trial.before:
        starts = [variables for variables, _ in trained(trial, trial.before, config, starts)]
    return [found for _, found in trained(trial, "synergy", config, starts)]


def trained(trial: Trial, captions: str, config: Config, starts: list[Any]) -> list[tuple[Any, float]]:
    """Returns variables and test accuracy after a training with each seed, from its start."""
    dataset = load_dataset(DataConfig(config.data, config.data_dir, captions, train_size=config.train_size))
    (plain,) = resolve(parse_choices(trial.label), dataset.task)
    spec = Changed(plain.name, plain.options, trial.change)
    data, budget = to_device(dataset), TrainingConfig(epochs=config.epochs, learning_rate=config.learning_rate)
    program = compile_program(
        spec, dataset.task, ModelConfig(encoder=config.encoder), budget, data, len(dataset.splits["train"])
    )
    test, found = dataset.splits["test"], []
    for seed, start in enumerate(starts):
        variables = train(
            program, data, dataset.splits, seed, budget, prepare=functools.partial(with_image_part, known=start)
        ).variables
        found.append((variables, accuracy(program.predictions(variables, data, test), dataset.labels[test])))
    return found


def with_image_part(state: TrainState, known: Any) -> TrainState:
    """Returns the state with the known embedding of the image and the known transformer."""
    if known is None:
        return state
    params, known = (jax.tree.map(jnp.copy, each.params) for each in (state.variables, known))  # training reuses memory
    params["transformer"] = known["transformer"]
    params["embeddings"]["image"] = known["embeddings"]["image"]
    return state._replace(variables=state.variables._replace(params=params))


def main(config: Config) -> int:
    """Trains the trials one after the other and prints a row for each."""
    unknown = [name for name in config.trials if name not in TRIALS]
    if unknown:
        print(f"unknown trial {unknown[0]!r}; choose from {', '.join(sorted(TRIALS))}", file=sys.stderr)
        return 2
    rows = []
    for name in config.trials:
        found = outcomes(TRIALS[name], config)
        row = pd.Series(found)
        cells = percent(*t_interval(found)), f"{100 * row.min():.1f}", f"{100 * row.max():.1f}"
        rows.append([TRIALS[name].label, TRIALS[name].changed, *cells])
        print(", ".join(rows[-1]), file=sys.stderr, flush=True)
    print(markdown_table(["strategy", "changed", "test accuracy, %", "lowest", "highest"], rows, "llrrr"))
    budget = f"{config.epochs} epochs, learning rate {config.learning_rate:g}"
    print(f"{config.data}, synergy captions, {budget}, n = {config.seeds} seeds, {jax.devices()[0].device_kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__, registry=REGISTRY)))
