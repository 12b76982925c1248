"""The compiled program on a tiny dataset, and what runs of one seed must share."""

import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import gather, to_device
from fusion_bench.data.dataset import Modality
from fusion_bench.fusion import registry
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.training.compile import compile_fixed, compile_predictor
from fusion_bench.training.compile_cache import without_cache
from fusion_bench.training.loop import TrainingDiverged, train
from tests.tasks import CLASSES, compile_strategy, jit, make_dataset

TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.03)
DATASET = make_dataset()
NUM_TRAIN = len(DATASET.splits["train"])


@dataclasses.dataclass
class Counted:
    """A compiled strategy, and how often its module was built, which is what tracing does."""

    label: str
    builds: int = 0

    def __post_init__(self):
        counter, spec = self, StrategySpec(self.label)

        make: Any = spec.registration.make

        class Counting(make):
            def __init__(self, *arguments, **options):
                counter.builds += 1
                super().__init__(*arguments, **options)

        registration = dataclasses.replace(spec.registration, make=Counting)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(registry.REGISTRY.known, self.label, registration)
            self.program = compile_strategy(spec, DATASET, TRAINING)
        self.data = to_device(DATASET)

    def train(self, seed, *, data=None, training=TRAINING):
        return train(self.program, self.data if data is None else data, DATASET.splits, seed, training)


@pytest.fixture(scope="module")
def concat():
    with without_cache():
        return Counted("concat")


@pytest.fixture(scope="module")
def image_only():
    return Counted("image-only")


@pytest.fixture(scope="module")
def trained(concat):
    return concat.train(0)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(ours, others):
    for one, other in zip(leaves(ours), leaves(others), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_learns(trained):
    first, last = trained.curve[0], trained.curve[-1]
    assert len(trained.curve) == TRAINING.epochs
    assert last.train_loss < first.train_loss - 0.2
    assert last.validation_loss < first.validation_loss - 0.1
    assert last.validation_accuracy > 0.6 > 2 / CLASSES
    assert trained.train_seconds > 0


def test_a_seed_repeats_itself_bit_for_bit(concat, trained):
    again = concat.train(0)
    assert_same(again.variables, trained.variables)
    assert again.curve == trained.curve
    assert again.epoch == trained.epoch


def test_another_seed_differs(concat, trained):
    other = concat.train(1)
    for one, another in zip(leaves(other.variables.params), leaves(trained.variables.params), strict=True):
        assert (one != another).any()


def test_one_compilation_serves_every_seed(concat, trained, caplog):
    builds = concat.builds
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: x + 1)(np.float32(1))
        assert [r for r in caplog.records if "compil" in r.message.lower()], "compilations are not seen"
        caplog.clear()
        concat.train(2)
    assert not [r.message for r in caplog.records if "compil" in r.message.lower()]
    assert concat.builds == builds


def test_lengths_of_chunks_change_nothing(concat):
    program, indices = concat.program, jnp.asarray(DATASET.splits["train"])
    states, losses = [], []
    for chunks in ([8, 8], [1, 2, 5, 3, 3, 2], [1] * 16):
        state, total = program.init(np.int32(0)), 0.0
        for steps in chunks:
            state, loss = program.train(state, concat.data, indices, np.int32(0), np.int32(steps))
            total += float(loss) * steps
        states.append(state)
        losses.append(total / 16)
    assert int(states[0].step) == 16
    for state, loss in zip(states[1:], losses[1:], strict=True):
        assert_same(state, states[0])
        assert loss == pytest.approx(losses[0], rel=1e-6)


def test_selected_variables_are_those_of_the_selected_epoch(concat):
    for select in ("best", "last"):
        trained = concat.train(3, training=dataclasses.replace(TRAINING, select=select))
        validation = DATASET.splits["validation"]
        logits = concat.program.predictions(trained.variables, concat.data, validation)
        accuracy = (logits.argmax(1) == DATASET.labels[validation]).mean()
        accuracies = [entry.validation_accuracy for entry in trained.curve]
        assert accuracy == accuracies[trained.epoch - 1]
        assert trained.epoch == TRAINING.epochs if select == "last" else accuracy == max(accuracies)


def test_predictions_are_those_of_the_module_whatever_their_number(concat, trained):
    module = nnx.merge(concat.program.graph, *trained.variables, copy=True)
    inputs, _ = gather(concat.data, jnp.arange(len(DATASET.labels)))
    expected = np.asarray(jit(lambda inputs: module(inputs).logits)(inputs))
    size = concat.program.predict_batch
    for count in (1, 40, size, size + 1, 2 * size + 70):
        indices = np.random.default_rng(count).integers(0, len(DATASET.labels), count).astype(np.int32)
        got = concat.program.predictions(trained.variables, concat.data, indices)
        assert got.shape == (count, CLASSES)
        np.testing.assert_allclose(got, expected[indices], atol=1e-5)


def test_a_built_module_predicts_as_its_program(concat, trained):
    module = nnx.merge(concat.program.graph, *trained.variables, copy=True)
    module.train()
    predictor = compile_predictor(module, concat.data)
    indices = np.resize(DATASET.splits["test"], concat.program.predict_batch)
    expected = concat.program.predict(trained.variables, concat.data, indices)
    np.testing.assert_allclose(predictor.predict(trained.variables, concat.data, indices), expected, atol=1e-6)
    fixed = compile_fixed(concat.program.graph, trained.variables, concat.data, len(indices))
    np.testing.assert_allclose(fixed(concat.data, indices), expected, atol=1e-5)
    assert predictor.params == concat.program.params
    assert predictor.inference_flops == pytest.approx(concat.program.inference_flops, rel=0.01)


def test_other_labels_can_be_learned(concat):
    """The classes are told by nothing in this dataset; give them the labels' values and they are learned."""
    informative = to_device(DATASET)
    noise = informative._replace(labels=jnp.asarray(DATASET.classes))
    learned, not_learned = (concat.train(0, data=data).curve[-1] for data in (informative, noise))
    assert learned.validation_accuracy > 0.6
    assert not_learned.validation_accuracy < 0.5


def test_costs(concat, image_only):
    program = concat.program
    params = leaves(program.init(np.int32(0)).variables.params)
    assert program.params == sum(leaf.size for leaf in params)
    assert program.steps_per_epoch == NUM_TRAIN // 16
    assert program.batch_size == 16
    assert program.compile_seconds > 0
    assert program.train_flops > 1.5 * program.inference_flops > 0
    assert program.inference_flops > image_only.program.inference_flops


def test_fewer_examples_than_a_batch():
    dataset = dataset_with(sensor=np.zeros((200, 3), np.float32))
    few = dataclasses.replace(dataset, splits={**DATASET.splits, "train": DATASET.splits["train"][:7]})
    spec = StrategySpec("sensor-only")
    program = compile_strategy(spec, few, TRAINING)
    assert (program.batch_size, program.steps_per_epoch) == (7, 1)
    assert len(train(program, to_device(few), few.splits, 0, TRAINING).curve) == TRAINING.epochs


def test_encoders_start_the_same_in_every_program(concat, image_only):
    for seed in (0, 1):
        joint, alone = (one.program.init(np.int32(seed)).variables.params for one in (concat, image_only))
        assert_same(joint["encoders"]["image"], alone["encoder"])
    first, second = (leaves(image_only.program.init(np.int32(seed)).variables.params) for seed in (0, 1))
    assert all((one != other).any() for one, other in zip(first, second, strict=True) if one.ndim > 1)


@pytest.mark.parametrize("what", ["data", "learning rate"])
def test_what_is_no_number_is_an_error(what):
    spec = StrategySpec("sensor-only")
    sensor = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    training = TRAINING
    if what == "data":
        sensor[DATASET.splits["train"][5], 1] = np.nan
    else:
        training = dataclasses.replace(TRAINING, learning_rate=1e30)
    dataset = dataset_with(sensor=sensor)
    program = compile_strategy(spec, dataset, training)
    with pytest.raises(TrainingDiverged, match=r"the loss is (nan|inf) in epoch [12], with seed 4"):
        train(program, to_device(dataset), dataset.splits, 4, training)


def dataset_with(**vectors):
    modalities = {name: Modality("vector", values) for name, values in vectors.items()}
    return dataclasses.replace(DATASET, modalities=modalities)
