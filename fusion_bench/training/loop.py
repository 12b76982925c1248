"""Trains one strategy with one seed: chunks of compiled steps, validation each epoch, best or last kept."""

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
class Progress:
    """What is known after each chunk of steps; validation accuracy is that of the last finished epoch.

    `curve` has one entry for each epoch that is finished.
    """

    epoch: float
    loss: float
    validation_accuracy: float | None
    examples_per_second: float
    curve: "tuple[EpochMetrics, ...]" = ()


@dataclasses.dataclass(frozen=True)
class EpochMetrics:
    """One line of a run's learning curve. Loss is the mean over the epoch's batches, in nats."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float


class Snapshot(NamedTuple):
    """All that a training needs to go on after an epoch: with the same end as without a pause.

    Attributes:
      state: after the last epoch of `curve`.
      best: the variables of the selected epoch.
      curve: one entry an epoch.
      selected: the epoch, counted from 1; 0 before the first.
      train_seconds: so far.
    """

    state: TrainState
    best: Variables
    curve: tuple[EpochMetrics, ...] = ()
    selected: int = 0
    train_seconds: float = 0.0


@runtime_checkable
class Checkpoint(Protocol):
    """Keeps snapshots of a training where an interruption does not reach them."""

    def load(self, like: Snapshot) -> Snapshot | None:
        """Returns the last snapshot, a tree of arrays like `like`; None if there is none."""

    def save(self, snapshot: Snapshot) -> None:
        """Keeps a snapshot; the arrays are read before it returns."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
      variables: the selected epoch's.
      epoch: the selected one, counted from 1.
      curve: one entry an epoch.
      train_seconds: from the first step to the end of the last, validation left out.
    """

    variables: Variables
    epoch: int
    curve: tuple[EpochMetrics, ...]
    train_seconds: float


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
) -> Trained:
    """Trains from initialisation, or from the last snapshot, to the last epoch.

    Args:
      program: the strategy, compiled for this data and budget.
      data: on the device; its labels are what is learned.
      splits: indices of "train" and "validation".
      seed: decides initialisation, batch order and augmentation.
      config: budget and selection.
      report: called after each chunk.
      checkpoint: has the snapshot to go on from, and is given new ones.
      pacing: how often the host is given progress and snapshots.

    Raises:
      TrainingDiverged: the loss became infinite or NaN.
    """
    validation = splits["validation"]
    labels = np.asarray(data.labels)[validation]
    state = program.init(np.int32(seed))
    chunk = -(-program.steps_per_epoch // pacing.chunks_per_epoch)
    snapshot = Snapshot(state, state.variables)
    if checkpoint is not None:
        snapshot = checkpoint.load(snapshot) or snapshot
    state, best, curve, selected, train_seconds = snapshot
    accuracy = curve[-1].validation_accuracy if curve else None
    saved = time.perf_counter()
    for epoch in range(len(curve) + 1, config.epochs + 1):
        losses, lengths = [], []
        start = time.perf_counter()
        order = jax.device_put(epoch_order(splits["train"], seed, epoch))
        for first in range(0, program.steps_per_epoch, chunk):
            steps = min(chunk, program.steps_per_epoch - first)
            dispatched = time.perf_counter()
            state, loss = program.train(state, data, order, np.int32(seed), np.int32(steps))
            losses.append(float(loss))
            lengths.append(steps)
            elapsed = time.perf_counter() - dispatched
            if not np.isfinite(losses[-1]):
                raise TrainingDiverged(f"the loss is {losses[-1]} in epoch {epoch}, with seed {seed}")
            done = epoch - 1 + (first + steps) / program.steps_per_epoch
            rate = steps * program.batch_size / elapsed
            report(Progress(done, losses[-1], accuracy, rate, tuple(curve)))
        train_seconds += time.perf_counter() - start
        logits = program.predictions(state.variables, data, validation)
        accuracy = classification.accuracy(logits, labels)
        is_best = not curve or accuracy >= max(entry.validation_accuracy for entry in curve)
        validation_loss = classification.cross_entropy(logits, labels)
        if not np.isfinite(validation_loss):
            raise TrainingDiverged(f"the validation loss is {validation_loss} after epoch {epoch}, with seed {seed}")
        train_loss = float(np.average(losses, weights=lengths))
        curve += (EpochMetrics(epoch, train_loss, validation_loss, accuracy),)
        if is_best or config.select == "last":
            best, selected = jax.tree.map(lambda leaf: leaf.copy(), state.variables), epoch
        due = time.perf_counter() - saved >= pacing.save_seconds
        if checkpoint is not None and epoch < config.epochs and due:
            checkpoint.save(Snapshot(state, best, curve, selected, train_seconds))
            saved = time.perf_counter()
    return Trained(best, selected, curve, train_seconds)
