"""A study small enough for tests: an .npz of 8×8 images, micro encoders, one epoch."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import fusion_bench
from fusion_bench.config import BenchmarkConfig, DataConfig, MeasurementConfig, ModelConfig, TrainingConfig
from fusion_bench.data.sources.shapes import CLASS_NAMES
from fusion_bench.store import Run, Store
from fusion_bench.study import progress, resources

STRATEGIES = ("image-only", "text-only", "concat", "late-posthoc")
ALONE = ("concat", "late-posthoc")
"""The strategies of the study that one process on one core has done."""
TRAINED = ["image-only", "text-only", "concat"]
TRAINING = ("--encoder", "micro", "--epochs", "1", "--batch-size", "16", "--learning-rate", "0.01", "--workers", "1")


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Makes the display as quiet as it can be."""
    patch.setattr(progress, "PLAIN_INTERVAL", float("inf"))


def write_source(path: Path, count: int = 300) -> Path:
    """Writes images of ten classes, whose brightness and colour tell the class more often than not."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(count) % len(CLASS_NAMES)
    seen = np.where(rng.random(count) < 0.8, labels, rng.integers(0, len(CLASS_NAMES), count))
    colours = rng.integers(0, 200, (len(CLASS_NAMES), 3))
    images = colours[seen][:, None, None] + rng.integers(0, 50, (count, 8, 8, 3))
    split = np.where(np.arange(count) < 0.8 * count, "train", "test")
    np.savez(path, image=images.astype(np.uint8), label=labels, split=split, class_names=np.array(CLASS_NAMES))
    return path


def make_config(source: Path, out: Path, *, strategies=STRATEGIES, seeds=1, captions="default") -> BenchmarkConfig:
    return BenchmarkConfig(
        data=DataConfig(str(source), captions=captions, validation_fraction=0.2),
        model=ModelConfig(encoder="micro"),
        training=TrainingConfig(epochs=1, batch_size=16, learning_rate=0.01),
        strategies=strategies,
        seeds=seeds,
        workers=1,
        out=out,
        measurement=MeasurementConfig(seconds=0.001, repetitions=3, latencies=10),
    )


def run_arguments(source, out, *more, strategies="late-posthoc", seeds=2) -> list[str]:
    """Returns the words of `fusion-bench run` for such a study."""
    words = ["run", "--data", source, "--strategies", strategies, "--seeds", seeds, "--out", out]
    return [str(word) for word in (*words, *TRAINING, *more)]


def outcomes(out: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """Returns status and reason of each stored run, costs aside."""
    runs = [run for run in Store(out).runs() if run.identity["target"] != "cost"]
    return {(run.strategy, run.seed): (run.status, run.reason) for run in runs}


def assert_same_runs(ours: Path, theirs: Path) -> None:
    """Checks that two stores have the same runs and the same logits, bit for bit."""
    stores = Store(ours, read_only=True), Store(theirs, read_only=True)
    metrics = [{run.id: (run.status, run.metrics) for run in store.runs()} for store in stores]
    assert metrics[0] == metrics[1]
    for identifier, (_, measured) in metrics[0].items():
        if measured:
            logits, expected = (store.predictions(identifier) for store in stores)
            for name in expected:
                np.testing.assert_array_equal(logits[name], expected[name], err_msg=f"{identifier} {name}")


class Recorder(progress.Display):
    """A display that remembers what it is told."""

    def __init__(self):
        super().__init__(Console(quiet=True))
        self.events: list[tuple[Any, ...]] = []
        self.runs: list[Run] = []

    def begin(self, runs, epochs):
        self.events.append(("begin", runs, epochs))

    def kept(self, runs):
        self.events.append(("kept", runs))

    def matching(self, strategy, quantity, to):
        self.events.append(("matching", strategy, quantity, to))

    def finished(self, run):
        self.runs.append(run)

    def elsewhere(self, run):
        self.events.append(("elsewhere", run.strategy, run.seed))

    def note(self, line):
        self.events.append(("note", line))


@dataclasses.dataclass(frozen=True)
class Done:
    """What a study left.

    Attributes:
      config: as it was run.
      frame: what `fusion_bench.run` returned.
      events: what its display was told before the runs.
      runs: what was stored, in order.
      compiled: the strategies that were compiled for training.
    """

    config: BenchmarkConfig
    frame: pd.DataFrame
    events: list[tuple[Any, ...]]
    runs: list[Run]
    compiled: list[str]

    @property
    def store(self) -> Store:
        return Store(self.config.out, read_only=True)

    def stored(self, strategy: str, *, seed: int = 0, target: str = "label") -> Run:
        """Returns the only such run."""
        wanted = strategy, seed, target
        (run,) = [r for r in self.store.runs() if (r.strategy, r.seed, r.identity["target"]) == wanted]
        return run


def run_recorded(config: BenchmarkConfig) -> Done:
    """Runs a study and notes what it did."""
    recorder, compiled = Recorder(), []

    def compile_program(spec, *arguments, original=resources.compile_program):
        compiled.append(spec.label)
        return original(spec, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        patch.setattr(progress, "make_display", lambda console: recorder)
        patch.setattr(resources, "compile_program", compile_program)
        frame = fusion_bench.run(config)
    return Done(config, frame, recorder.events, recorder.runs, compiled)
