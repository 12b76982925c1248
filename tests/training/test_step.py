"""The batches, images and keys of a run, recorded by a strategy that learns nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import alternating_flip, augment, draw_texts, gather, to_device
from fusion_bench.data.dataset import Alternatives, Dataset, Modality
from fusion_bench.fusion import registry
from fusion_bench.fusion.base import Outputs, Strategy
from fusion_bench.fusion.registry import Registration, StrategySpec
from fusion_bench.training.loop import train
from fusion_bench.training.step import run_key
from tests.tasks import CLASSES, compile_strategy, jit, make_dataset

TRAINING = TrainingConfig(epochs=2, batch_size=16, learning_rate=0.03, select="last")
DATASET = make_dataset()
NUM_TRAIN = len(DATASET.splits["train"])


class Seen(nnx.Variable):
    """What a probe was given."""


STEPS, BATCH = 2 * (NUM_TRAIN // 16), 16


class Probe(Strategy):
    """Records the examples, the images, the drawn texts and the dropout key of every training step."""

    def __init__(self, blueprint, *, width: int = 0):
        self.step = Seen(jnp.zeros((), jnp.int32))
        self.ids = Seen(jnp.zeros((STEPS, BATCH), jnp.int32))
        self.images = Seen(jnp.zeros((STEPS, BATCH, 8, 8, 3)))
        self.said = Seen(jnp.zeros((STEPS, BATCH), jnp.int32))
        self.dropout = Seen(jnp.zeros((STEPS, 2), jnp.uint32))
        self.scores = nnx.Param(jnp.zeros(CLASSES))
        if width:
            self.extra = nnx.Linear(CLASSES, width, rngs=blueprint.rngs("extra"))

    def __call__(self, inputs, *, rngs=None):
        count = len(inputs["image"].values)
        if rngs is not None:
            key = jax.random.key_data(rngs.dropout())
            seen = {"images": inputs["image"].values, "dropout": key}
            seen |= {"ids": inputs["id"].values[:, 0], "said": inputs["said"].values[:, 0]}
            for name, values in seen.items():
                variable = getattr(self, name)
                variable.set_value(variable[...].at[self.step[...]].set(values))
            self.step.set_value(self.step[...] + 1)
        return Outputs(jnp.broadcast_to(self.scores[...], (count, CLASSES)))


IDS = Modality("tokens", np.arange(1, 201, dtype=np.int32)[:, None], 201)
EACH = np.arange(200, dtype=np.int32)
TEXTS = Alternatives(1 + np.arange(600, dtype=np.int32)[:, None] % 3, 3 * EACH, np.full_like(EACH, 3))
SAID = Modality("tokens", np.ones((200, 1), np.int32), 4, alternatives=TEXTS)
NUMBERED: Dataset = dataclasses.replace(DATASET, modalities={**DATASET.modalities, "id": IDS, "said": SAID})


STILL = dataclasses.replace(
    NUMBERED, modalities={name: dataclasses.replace(each, augment=()) for name, each in NUMBERED.modalities.items()}
)


def augment_image(inputs, key, flip=None):
    return augment(inputs, {"image": ("flip", "translate")}, key, flip)


@functools.cache
def compile_probe(width, is_still, **changes):
    training = dataclasses.replace(TRAINING, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY.known, "probe", Registration("probe", "none", Probe, family="late"))
        return compile_strategy(
            StrategySpec("probe", {"width": width}), STILL if is_still else NUMBERED, training
        ), training


def probe(seed, width=0, is_still=False, **changes):
    """Returns what a run of two epochs saw."""
    program, training = compile_probe(width, is_still, **changes)
    rest = train(program, to_device(NUMBERED), NUMBERED.splits, seed, training).variables.rest
    assert int(rest["step"][...]) == STEPS
    return {name: np.asarray(rest[name][...]) for name in ("ids", "images", "said", "dropout")}


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
        augmented = jit(augment_image)(inputs, key)["image"].values
        np.testing.assert_allclose(seen["images"][step], augmented, atol=1e-6)
        assert np.abs(seen["images"][step] - inputs["image"].values).max() > 0.1
        keys.add(tuple(seen["dropout"][step].tolist()))
    assert len(keys) == 4


def test_an_epoch_draws_one_of_the_texts_of_an_example(seen):
    data = to_device(NUMBERED)
    for step in (0, 1, STEPS // 2, STEPS - 1):
        indices, epoch = jnp.asarray(seen["ids"][step] - 1), step // (STEPS // 2)
        drawn = draw_texts({}, data, indices, jax.random.fold_in(run_key(0, "text"), epoch))
        np.testing.assert_array_equal(seen["said"][step], drawn["said"].values[:, 0])
    assert np.bincount(seen["said"].ravel(), minlength=4)[1:].min() > seen["said"].size / 4
    first, second = (
        dict(zip(ids.ravel(), said.ravel(), strict=True))
        for ids, said in zip(np.split(seen["ids"], 2), np.split(seen["said"], 2), strict=True)
    )
    changed = np.mean([first[example] != second[example] for example in first.keys() & second.keys()])
    assert 0.5 < changed < 0.85


def test_flips_alternate_from_epoch_to_epoch(seen):
    alternating = probe(0, flip="alternating")
    np.testing.assert_array_equal(alternating["ids"], seen["ids"])
    data = to_device(NUMBERED)
    for epoch, step in ((0, 1), (1, STEPS // 2), (1, STEPS - 1)):
        indices = jnp.asarray(seen["ids"][step] - 1)
        flip = alternating_flip(indices, run_key(0, "flip"), epoch)
        key = jax.random.fold_in(run_key(0, "augment"), step)
        inputs, _ = gather(data, indices)
        expected = jit(augment_image)(inputs, key, flip)["image"].values
        np.testing.assert_allclose(alternating["images"][step], expected, atol=1e-6)
    assert (alternating["images"] != seen["images"]).any()


def test_augmentation_can_be_left_out(seen):
    plain = probe(0, is_still=True)
    np.testing.assert_array_equal(plain["ids"], seen["ids"])
    inputs, _ = gather(to_device(NUMBERED), jnp.asarray(plain["ids"].reshape(-1) - 1))
    np.testing.assert_allclose(plain["images"].reshape(-1, 8, 8, 3), inputs["image"].values, atol=1e-6)
