"""The compiled program on a tiny dataset, and what runs of one seed must share."""

import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import alternating_flip, augment, gather, to_device
from fusion_bench.data.dataset import Dataset, Modality
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.registry import Registration, StrategySpec, parse_strategies
from fusion_bench.training.loop import TrainingDiverged, train
from fusion_bench.training.program import (
    compile_fixed,
    compile_predictor,
    compile_program,
    predict_bytes,
    train_bytes,
)
from fusion_bench.training.step import make_functions, run_key
from tests.tasks import CLASSES, CONFIG, jit, make_dataset

pytestmark = pytest.mark.usefixtures("tiny_widths")

TRAINING = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.03)
DATASET = make_dataset()
NUM_TRAIN = len(DATASET.splits["train"])


def compile_strategy(spec, dataset=DATASET, training=TRAINING):
    num_train = len(dataset.splits["train"])
    return compile_program(spec, dataset.task, CONFIG, training, to_device(dataset), num_train)


@dataclasses.dataclass
class Counted:
    """A compiled strategy, and how often its module was built, which is what tracing does."""

    label: str
    builds: int = 0

    def __post_init__(self):
        (spec,) = parse_strategies(self.label, DATASET.task)
        counter = self

        make: Any = spec.registration.make

        class Counting(make):
            def __init__(self, *arguments, **options):
                counter.builds += 1
                super().__init__(*arguments, **options)

        registration = dataclasses.replace(spec.registration, make=Counting)
        self.program = compile_strategy(StrategySpec(registration, spec.options))
        self.data = to_device(DATASET)

    def train(self, seed, *, data=None, training=TRAINING):
        return train(self.program, self.data if data is None else data, DATASET.splits, seed, training)


@pytest.fixture(scope="module")
def concat(tiny_widths):
    return Counted("concat")


@pytest.fixture(scope="module")
def image_only(tiny_widths):
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
    assert 0 < trained.host_seconds < trained.train_seconds


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
    np.testing.assert_allclose(
        predictor.predict(predictor.variables, concat.data, indices), expected, atol=1e-6
    )
    fixed = compile_fixed(concat.program.graph, trained.variables, concat.data, len(indices))
    np.testing.assert_allclose(fixed(concat.data, indices), expected, atol=1e-5)
    assert predictor.params == concat.program.params
    assert predictor.inference_flops == pytest.approx(concat.program.inference_flops, rel=0.01)


def test_other_labels_can_be_learned(concat):
    """The classes are told by nothing in this dataset; give them the labels' values and they are learned."""
    informative = to_device(DATASET)
    noise = to_device(DATASET, DATASET.classes)
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
    (spec,) = parse_strategies("sensor-only", few.task)
    program = compile_strategy(spec, few)
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
    (spec,) = parse_strategies("sensor-only", dataset_with(sensor=np.zeros((200, 3), np.float32)).task)
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


def test_bytes_moved_do_not_count_examples_that_are_only_stored():
    (spec,) = parse_strategies("image-only", DATASET.task)
    found = []
    for copies in (1, 20):
        many = {name: dataclasses.replace(m, values=np.tile(m.values, (copies, *[1] * (m.values.ndim - 1))))
                for name, m in DATASET.modalities.items()}  # fmt: skip
        data = to_device(
            dataclasses.replace(DATASET, modalities=many, labels=np.tile(DATASET.labels, copies))
        )
        functions = make_functions(spec, DATASET.task, CONFIG, TRAINING, NUM_TRAIN)
        state = jax.eval_shape(functions.init, jax.ShapeDtypeStruct((), jnp.int32))
        trained = train_bytes(functions, data)
        predicted = predict_bytes(functions.graph, state.variables, data, functions.batch_size)
        found.append((trained, predicted))
    assert found[0] == found[1]
    trained, predicted = found[0]
    assert (
        trained > 2 * predicted > 2 * 8 * 8 * (3 + 4 * 3)
    )  # at the least, bytes are read and floats made of them


# What a run sees, recorded by a strategy that learns nothing.


class Seen(nnx.Variable):
    """What a probe was given."""


STEPS, BATCH = 2 * (NUM_TRAIN // 16), 16


class Probe(Strategy):
    """Records the examples, the images and the dropout key of every training step."""

    def __init__(self, blueprint, *, width: int = 0):
        self.step = Seen(jnp.zeros((), jnp.int32))
        self.ids = Seen(jnp.zeros((STEPS, BATCH), jnp.int32))
        self.images = Seen(jnp.zeros((STEPS, BATCH, 8, 8, 3)))
        self.dropout = Seen(jnp.zeros((STEPS, 2), jnp.uint32))
        self.scores = nnx.Param(jnp.zeros(CLASSES))
        if width:
            self.extra = nnx.Linear(CLASSES, width, rngs=blueprint.rngs("extra"))

    def __call__(self, inputs, *, rngs=None):
        count = len(inputs["image"].values)
        if rngs is not None:
            key = jax.random.key_data(rngs.dropout())
            seen = {"ids": inputs["id"].values[:, 0], "images": inputs["image"].values, "dropout": key}
            for name, values in seen.items():
                variable = getattr(self, name)
                variable.set_value(variable[...].at[self.step[...]].set(values))
            self.step.set_value(self.step[...] + 1)
        return Outputs(jnp.broadcast_to(self.scores[...], (count, CLASSES)))


IDS = Modality("tokens", np.arange(1, 201, dtype=np.int32)[:, None], 201)
NUMBERED: Dataset = dataclasses.replace(DATASET, modalities={**DATASET.modalities, "id": IDS})


@functools.cache
def compile_probe(width, **changes):
    training = dataclasses.replace(TRAINING, epochs=2, select="last", **changes)
    spec = StrategySpec(Registration("probe", "late", "none", Probe), {"width": width})
    return compile_strategy(spec, NUMBERED, training), training


def probe(seed, width=0, **changes):
    """Returns what a run of two epochs saw."""
    program, training = compile_probe(width, **changes)
    rest = train(program, to_device(NUMBERED), NUMBERED.splits, seed, training).variables.rest
    assert int(rest["step"][...]) == STEPS
    return {name: np.asarray(rest[name][...]) for name in ("ids", "images", "dropout")}


@pytest.fixture(scope="module")
def seen():
    return probe(0)


def test_an_epoch_shows_every_training_example_at_most_once(seen):
    first, second = seen["ids"].reshape(2, -1) - 1
    for epoch in (first, second):
        assert len(set(epoch)) == len(epoch) == NUM_TRAIN // 16 * 16
        assert set(epoch) <= set(DATASET.splits["train"].tolist())
    assert (first != second).mean() > 0.9
    assert set(first) != set(second)  # another incomplete batch is left out


def test_strategies_of_one_seed_see_the_same_batches_images_and_keys(seen):
    other = probe(0, width=5)
    for name in seen:
        np.testing.assert_array_equal(other[name], seen[name], err_msg=name)


def test_another_seed_sees_other_batches_and_keys(seen):
    other = probe(1)
    assert (other["ids"] != seen["ids"]).mean() > 0.9
    assert (other["dropout"] != seen["dropout"]).any(1).all()


def test_images_are_augmented_anew_in_every_step(seen):
    data = to_device(NUMBERED)
    keys = set()
    for step in (0, 1, STEPS // 2, STEPS - 1):
        inputs, _ = gather(data, jnp.asarray(seen["ids"][step] - 1))
        key = jax.random.fold_in(run_key(0, "augment"), step)
        augmented = jit(augment)(inputs, key)["image"].values
        np.testing.assert_allclose(seen["images"][step], augmented, atol=1e-6)
        assert np.abs(seen["images"][step] - inputs["image"].values).max() > 0.1
        keys.add(tuple(seen["dropout"][step].tolist()))
    assert len(keys) == 4


def test_flips_alternate_from_epoch_to_epoch(seen):
    alternating = probe(0, flip="alternating")
    np.testing.assert_array_equal(alternating["ids"], seen["ids"])
    data = to_device(NUMBERED)
    for epoch, step in ((0, 1), (1, STEPS // 2), (1, STEPS - 1)):
        indices = jnp.asarray(seen["ids"][step] - 1)
        flip = alternating_flip(indices, run_key(0, "flip"), epoch)
        key = jax.random.fold_in(run_key(0, "augment"), step)
        expected = jit(augment)(gather(data, indices)[0], key, flip)["image"].values
        np.testing.assert_allclose(alternating["images"][step], expected, atol=1e-6)
    assert (alternating["images"] != seen["images"]).any()


def test_augmentation_can_be_left_out(seen):
    plain = probe(0, augment=False)
    np.testing.assert_array_equal(plain["ids"], seen["ids"])
    inputs, _ = gather(to_device(NUMBERED), jnp.asarray(plain["ids"].reshape(-1) - 1))
    np.testing.assert_allclose(plain["images"].reshape(-1, 8, 8, 3), inputs["image"].values, atol=1e-6)
