"""The loop that drives a program, on one that computes nothing: what it asks for, keeps, times, reports."""

import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import CheckpointConfig, TrainingConfig
from fusion_bench.data.batches import DeviceData
from fusion_bench.data.dataset import Split
from fusion_bench.training import loop
from fusion_bench.training.compile import Program
from fusion_bench.training.loop import TrainingDiverged, train
from fusion_bench.training.step import TrainState, Variables, epoch_order

LABELS = np.arange(10) % 2
DATA = DeviceData({}, jnp.asarray(LABELS, jnp.int32))
SPLITS: dict[Split, np.ndarray] = {
    "train": np.arange(5, dtype=np.int32),
    "validation": np.arange(5, 10, dtype=np.int32),
}
TRAIN_SECONDS, PREDICT_SECONDS, REPORT_SECONDS = 8.0, 100.0, 1.0


class Fake:
    """A program whose only variable counts its steps, with given losses and accuracies, and a clock."""

    def __init__(self, steps_per_epoch, losses=(), right=()):
        self.losses, self.right, self.steps_per_epoch = losses, right, steps_per_epoch
        self.calls, self.now = [], 0.0
        self.program = Program(
            init=self.init,
            train=self.train,
            predict=self.predict,
            graph=None,
            steps_per_epoch=steps_per_epoch,
            batch_size=4,
            predict_batch=500,
            params=1,
            compile_seconds=0.0,
            train_flops=0.0,
            inference_flops=0.0,
        )

    def init(self, seed):
        return TrainState(Variables({"steps": jnp.zeros(())}, {"seed": jnp.asarray(seed)}), None, jnp.int32(0))

    def train(self, state, data, order, seed, steps):
        self.now += TRAIN_SECONDS
        assert seed == state.variables.rest["seed"]
        first = int(state.step)
        epoch = 1 + first // self.steps_per_epoch
        np.testing.assert_array_equal(order, epoch_order(SPLITS["train"], int(seed), epoch))
        self.calls.append(int(steps))
        loss = np.mean([self.losses[i] for i in range(first, first + steps)]) if len(self.losses) else 1.0
        params = {"steps": state.variables.params["steps"] + steps}
        state.variables.params["steps"].delete()  # it is donated
        return TrainState(Variables(params, state.variables.rest), None, state.step + steps), jnp.float32(loss)

    def predict(self, variables, data, indices):
        """Scores of which as many validation examples as asked for have the right class first."""
        self.now += PREDICT_SECONDS
        epoch = int(variables.params["steps"]) // self.steps_per_epoch
        right = self.right[epoch - 1] if len(self.right) else 0
        wrong = indices - SPLITS["validation"][0] >= right
        return jnp.eye(2)[np.where(wrong, 1 - LABELS[indices], LABELS[indices])]


@pytest.fixture
def run(monkeypatch):
    def run(fake, epochs, seed=3, select: Any = "best", **options):
        monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: fake.now))
        config = TrainingConfig(epochs=epochs, select=select)
        return train(fake.program, DATA, SPLITS, seed, config, **options)

    return run


def test_an_epoch_is_a_few_chunks_of_all_its_steps(run):
    for steps, chunks in {10: [3, 3, 3, 1], 8: [2, 2, 2, 2], 3: [1, 1, 1], 1: [1]}.items():
        fake = Fake(steps)
        run(fake, epochs=2)
        assert fake.calls == chunks * 2


@pytest.mark.parametrize(
    ("select", "right", "epoch"),
    [
        ("best", [1, 4, 2], 2),
        ("best", [1, 4, 4], 3),  # the later of equals has seen more
        ("best", [3, 2, 1], 1),
        ("last", [1, 4, 2], 3),
        ("last", [3, 2, 1], 3),
    ],
)
def test_selection_is_by_validation_accuracy(run, select, right, epoch):
    trained = run(Fake(5, right=right), epochs=3, select=select)
    assert trained.epoch == epoch
    assert float(trained.variables.params["steps"]) == 5 * epoch
    assert [entry.validation_accuracy for entry in trained.curve] == [r / 5 for r in right]
    assert [entry.epoch for entry in trained.curve] == [1, 2, 3]


def test_losses_of_the_curve(run):
    losses = np.random.default_rng(0).random(14)
    trained = run(Fake(7, losses=losses, right=[5, 0]), epochs=2)
    expected = [losses[:7].mean(), losses[7:].mean()]
    np.testing.assert_allclose([entry.train_loss for entry in trained.curve], expected, rtol=1e-6)
    right, wrong = np.log(1 + np.exp(-1)), np.log(1 + np.exp(1))  # scores are 1 and 0
    np.testing.assert_allclose([entry.validation_loss for entry in trained.curve], [right, wrong], rtol=1e-6)


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number_ends_the_run(run, loss):
    fake = Fake(4, losses=[1.0] * 6 + [loss] + [1.0] * 5)
    with pytest.raises(TrainingDiverged, match=f"the loss is {loss} in epoch 2, with seed 3"):
        run(fake, epochs=3)
    assert sum(fake.calls) == 7


def test_progress_is_reported_after_each_chunk(run):
    seen = []
    run(Fake(4, losses=[4, 3, 2, 1] * 2, right=[2, 5]), epochs=2, report=seen.append)
    assert [progress.epoch for progress in seen] == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert [progress.loss for progress in seen] == [4, 3, 2, 1] * 2
    assert [progress.validation_accuracy for progress in seen] == [None] * 4 + [0.4] * 4
    assert {progress.examples_per_second for progress in seen} == {4 / TRAIN_SECONDS}


def test_training_seconds_are_those_of_the_steps_and_of_what_lies_between(run):
    fake = Fake(4)

    def report(progress):
        fake.now += REPORT_SECONDS

    trained = run(fake, epochs=3, report=report)
    assert trained.train_seconds == pytest.approx(12 * (TRAIN_SECONDS + REPORT_SECONDS))  # no validation in it


@pytest.mark.parametrize(("seconds", "epochs"), [(100, [1, 2, 3, 4]), (200, [2, 4]), (10_000, [])])
def test_a_snapshot_is_taken_now_and_then_but_not_at_the_end(run, seconds, epochs):
    class Memory:
        def __init__(self):
            self.seen = []

        def load(self, like):
            return None

        def save(self, snapshot):
            self.seen.append(len(snapshot.curve))

    fake = Fake(4)  # 132 s an epoch
    memory = Memory()
    run(fake, epochs=5, checkpoint=memory, pacing=CheckpointConfig(save_seconds=float(seconds)))
    assert memory.seen == epochs
