"""A training that is interrupted and goes on ends as one that is not, to the last bit."""

from typing import Any

import jax
import numpy as np
import pytest

from fusion_bench.config import CheckpointConfig, TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.compile import compile_program
from fusion_bench.training.loop import Trained, train
from tests.tasks import CONFIG, make_dataset

EPOCHS = 5
DATASET = make_dataset()
DATA = to_device(DATASET)


class Interrupted(Exception):
    pass


class Memory:
    """Keeps the last snapshot as NumPy arrays."""

    def __init__(self):
        self.kept: Any = None
        self.epochs = []

    def load(self, like):
        return None if self.kept is None else Trained(*jax.tree.map(jax.numpy.array, self.kept[:2]), *self.kept[2:])

    def save(self, snapshot):
        self.kept = (*jax.tree.map(np.array, snapshot[:2]), *snapshot[2:])
        self.epochs.append(len(snapshot.curve))


def config(select):
    return TrainingConfig(epochs=EPOCHS, batch_size=16, learning_rate=0.01, select=select)


@pytest.fixture(scope="module")
def program():
    spec = StrategySpec("concat")
    num_train = len(DATASET.splits["train"])
    return compile_program(spec, DATASET.task, CONFIG, config("best"), DATA, num_train)


@pytest.fixture
def run(program):
    """Trains; if asked to, up to the middle of the epoch after `until`."""

    def run(select: Any, keeper=None, until=None):
        def report(progress):
            if until is not None and progress.epoch > until + 0.4:
                raise Interrupted

        options: Any = {"report": report, "checkpoint": keeper, "pacing": CheckpointConfig(save_seconds=0.0)}
        return train(program, DATA, DATASET.splits, 2, config(select), **options)

    return run


@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize("epochs", [[1], [3], [1, 2, 4]], ids=str)
def test_an_interrupted_training_ends_like_another(run, program, select, epochs):
    keeper = Memory()
    for until in epochs:
        with pytest.raises(Interrupted):
            run(select, keeper, until)
        assert len(keeper.kept[2]) == until
    resumed, whole = run(select, keeper), run(select)
    assert keeper.epochs == [1, 2, 3, 4]  # none was trained twice
    assert resumed.curve == whole.curve
    assert resumed.epoch == whole.epoch
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)
    test = DATASET.splits["test"]
    logits = [program.predictions(trained.variables, DATA, test) for trained in (resumed, whole)]
    np.testing.assert_array_equal(*logits)


def test_seconds_add_up(run):
    keeper = Memory()
    with pytest.raises(Interrupted):
        run("best", keeper, 2)
    *rest, before = keeper.kept
    keeper.kept = (*rest, before + 1000)
    trained = run("best", keeper)
    assert 1000 < trained.train_seconds < 1100
