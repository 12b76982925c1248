"""Training of one strategy with one seed: chunks of compiled steps, validation after each epoch, epoch selection."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from fusion_bench.config import CheckpointConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Split
from fusion_bench.metrics import classification
from fusion_bench.training.compile import Program
from fusion_bench.training.step import TrainState, Variables, epoch_order


class TrainingDiverged(Exception):
    """The loss is no longer a number."""


@dataclasses.dataclass(frozen=True)
class EpochMetrics:
    """One line of a run's learning curve. Loss is the mean over the epoch's batches, in nats."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """State of a training after each chunk of steps; validation accuracy is that of the last finished epoch.

    `curve` has one entry for each epoch that is finished.
    """

    epoch: float
    loss: float
    validation_accuracy: float | None
    examples_per_second: float
    curve: tuple[EpochMetrics, ...] = ()


class Trained(NamedTuple):
    """Result of a training, or its complete state after an epoch, from which it resumes with the same result.

    Attributes:
      state: after the last epoch of `curve`.
      variables: of the selected epoch.
      curve: one entry per epoch.
      epoch: the selected one, counted from 1; 0 before the first.
      train_seconds: seconds of training so far, without validation.
    """

    state: TrainState
    variables: Variables
    curve: tuple[EpochMetrics, ...] = ()
    epoch: int = 0
    train_seconds: float = 0.0


@runtime_checkable
class Checkpoint(Protocol):
    """Storage for the state of one training, from which it resumes after an interruption."""

    def load(self, like: Trained) -> Trained | None:
        """Returns the last saved state, with the structure of `like`; None if there is none."""

    def save(self, trained: Trained) -> None:
        """Saves the state; the arrays are read before it returns."""


def train(
    program: Program,
    data: DeviceData,
    splits: Mapping[Split, np.ndarray],
    seed: int,
    config: TrainingConfig,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    checkpoint: Checkpoint | None = None,
    pacing: CheckpointConfig = CheckpointConfig(),
    prepare: Callable[[TrainState], TrainState] = lambda state: state,
) -> Trained:
    """Trains from initialisation, or from a saved state, to the last epoch.

    Args:
      program: the strategy, compiled for this data and budget.
      data: on the device; its labels are the targets.
      splits: indices of "train" and "validation".
      seed: decides initialisation, batch order and augmentation.
      config: budget and selection.
      report: called after each chunk.
      checkpoint: loads the saved state, and saves states during the training.
      pacing: how often progress is reported and the state is saved.
      prepare: changes the initial state, as a remedy may.

    Raises:
      TrainingDiverged: the loss became infinite or NaN.
    """
    validation = splits["validation"]
    labels = np.asarray(data.labels)[validation]
    state = prepare(program.init(np.int32(seed)))
    data, program = program.training_data(state.variables, data, np.concatenate([splits["train"], validation]))
    trained = Trained(state, state.variables)
    if checkpoint is not None:
        trained = checkpoint.load(trained) or trained
    saved = time.perf_counter()
    for epoch in range(len(trained.curve) + 1, config.epochs + 1):
        start = time.perf_counter()
        state, train_loss = _train_epoch(program, data, splits["train"], seed, trained, pacing, report)
        seconds = trained.train_seconds + time.perf_counter() - start
        logits = program.predictions(state.variables, data, validation)
        loss, accuracy = classification.cross_entropy(logits, labels), classification.accuracy(logits, labels)
        if not np.isfinite(loss):
            raise TrainingDiverged(f"the validation loss is {loss} after epoch {epoch}, with seed {seed}")
        variables, selected = trained.variables, trained.epoch
        best = max((entry.validation_accuracy for entry in trained.curve), default=0.0)
        if {"best": accuracy >= best, "last": True}[config.select]:
            variables, selected = jax.tree.map(lambda leaf: leaf.copy(), state.variables), epoch
        curve = (*trained.curve, EpochMetrics(epoch, train_loss, loss, accuracy))
        trained = Trained(state, variables, curve, selected, seconds)
        due = time.perf_counter() - saved >= pacing.save_seconds
        if checkpoint is not None and epoch < config.epochs and due:
            checkpoint.save(trained)
            saved = time.perf_counter()
    return trained


def _train_epoch(
    program: Program,
    data: DeviceData,
    indices: np.ndarray,
    seed: int,
    before: Trained,
    pacing: CheckpointConfig,
    report: Callable[[Progress], None],
) -> tuple[TrainState, float]:
    """Returns the state after one more epoch, and the mean loss over its batches."""
    state, curve, epoch = before.state, before.curve, len(before.curve) + 1
    accuracy = curve[-1].validation_accuracy if curve else None
    order = jax.device_put(epoch_order(indices, seed, epoch))
    chunk = -(-program.steps_per_epoch // pacing.chunks_per_epoch)
    losses, lengths = [], []
    for first in range(0, program.steps_per_epoch, chunk):
        steps = min(chunk, program.steps_per_epoch - first)
        dispatched = time.perf_counter()
        state, loss = program.train(state, data, order, np.int32(seed), np.int32(steps))
        losses.append(float(loss))
        lengths.append(steps)
        rate = steps * program.batch_size / (time.perf_counter() - dispatched)
        if not np.isfinite(losses[-1]):
            raise TrainingDiverged(f"the loss is {losses[-1]} in epoch {epoch}, with seed {seed}")
        done = epoch - 1 + (first + steps) / program.steps_per_epoch
        report(Progress(done, losses[-1], accuracy, rate, curve))
    return state, float(np.average(losses, weights=lengths))
