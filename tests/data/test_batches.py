import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.data.batches import (
    ModalityBatch,
    alternating_flip,
    augment,
    augment_images,
    flip_and_shift,
    gather,
    to_device,
)
from fusion_bench.data.dataset import Dataset, Modality
from tests.tasks import jit

COUNT = 30
TRANSFORMS = ("flip", "translate")
TRAIN = np.arange(0, 20, dtype=np.int32)
MASK = np.arange(6) <= np.arange(COUNT)[:, None] % 6
MASK[5] = [False, False, True, False, True, True]  # padding need not be at the end


def make_dataset(**changes):
    rng = np.random.default_rng(0)
    values = {
        "image": Modality("grid", rng.integers(0, 256, (COUNT, 6, 5, 3), np.uint8)),
        "audio": Modality("grid", rng.normal(3, 2, (COUNT, 4, 2, 1)).astype(np.float32)),
        "sensor": Modality("vector", rng.normal(-1, 5, (COUNT, 4)).astype(np.float32)),
        "text": Modality("tokens", rng.integers(0, 9, (COUNT, 7), np.int32), 9),
        "motion": Modality("sequence", rng.normal(2, 3, (COUNT, 6, 2)).astype(np.float32), mask=MASK),
    }
    return Dataset(
        name="mine",
        modalities=values | changes,
        labels=rng.integers(0, 3, COUNT).astype(np.int32),
        classes=rng.integers(0, 3, COUNT).astype(np.int32),
        class_names=("a", "b", "c"),
        splits={"train": TRAIN, "validation": TRAIN[:5] + 20, "test": TRAIN[:5] + 25},
    )


def standardised(values):
    """Each channel with the mean and the deviation of its training values, one channel at a time."""
    out = np.zeros(values.shape)
    for channel in range(values.shape[-1]):
        train = values[TRAIN][..., channel].astype(np.float64)
        out[..., channel] = (values[..., channel] - train.mean()) / (train.std() or 1.0)
    return out


def test_gather_standardises_with_the_training_split_alone():
    dataset = make_dataset()
    indices = np.array([29, 3, 3, 20])
    inputs, labels = gather(to_device(dataset), jnp.asarray(indices))
    for name in ("image", "audio", "sensor"):
        expected = standardised(dataset.modalities[name].values)[indices]
        np.testing.assert_allclose(inputs[name].values, expected, atol=1e-5)
        assert inputs[name].values.dtype == jnp.float32
        assert inputs[name].mask is None
    np.testing.assert_array_equal(labels, dataset.labels[indices])


@pytest.mark.parametrize("name", ["image", "audio", "sensor"])
def test_statistics_ignore_what_is_not_for_training(name):
    modality = make_dataset().modalities[name]
    values = modality.values.copy()
    values[20:] = 200
    changed = to_device(make_dataset(**{name: dataclasses.replace(modality, values=values)}))
    for got, expected in zip(changed.modalities[name][1:], to_device(make_dataset()).modalities[name][1:], strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("padding", [0, 1e30, np.nan])
def test_a_sequence_is_standardised_where_it_has_steps_and_zero_elsewhere(padding):
    motion = make_dataset().modalities["motion"].values
    values = np.where(MASK[:, :, None], motion, np.float32(padding))
    inputs, _ = gather(to_device(make_dataset(motion=Modality("sequence", values, mask=MASK))), jnp.arange(COUNT))
    expected = np.zeros(motion.shape)
    for feature in range(2):
        train = motion[TRAIN][MASK[TRAIN]][:, feature].astype(np.float64)
        expected[MASK, feature] = (motion[MASK][:, feature] - train.mean()) / train.std()
    np.testing.assert_allclose(inputs["motion"].values, expected, atol=1e-5)
    np.testing.assert_array_equal(inputs["motion"].mask, MASK)


def test_a_sequence_without_a_mask_has_all_its_steps():
    values = make_dataset().modalities["motion"].values
    found = [
        to_device(make_dataset(motion=Modality("sequence", values, mask=mask)))
        for mask in (None, np.ones(MASK.shape, bool))
    ]
    one, other = (gather(data, jnp.arange(COUNT))[0]["motion"] for data in found)
    np.testing.assert_allclose(one.values, standardised(values), atol=1e-5)
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)
    np.testing.assert_array_equal(one.mask, np.ones(MASK.shape, bool))


def test_the_fingerprint_is_over_the_mask():
    values, shorter = make_dataset().modalities["motion"].values, MASK.copy()
    shorter[2, 2] = False
    masks = (None, MASK, shorter)
    found = {make_dataset(motion=Modality("sequence", values, mask=mask)).fingerprint for mask in masks}
    assert len(found) == len(masks)


def test_a_constant_channel_stays_finite():
    values = np.ones((COUNT, 2), np.float32)
    values[:, 1] = np.arange(COUNT)
    inputs, _ = gather(to_device(make_dataset(sensor=Modality("vector", values))), jnp.arange(COUNT))
    np.testing.assert_array_equal(inputs["sensor"].values[:, 0], np.zeros(COUNT))
    assert np.isfinite(inputs["sensor"].values).all()


def test_tokens_stay_as_they_are_and_padding_is_masked():
    dataset = make_dataset()
    inputs, _ = gather(to_device(dataset), jnp.arange(4))
    tokens = dataset.modalities["text"].values[:4]
    np.testing.assert_array_equal(inputs["text"].values, tokens)
    np.testing.assert_array_equal(inputs["text"].mask, tokens != 0)
    assert inputs["text"].mask is not None
    assert not np.asarray(inputs["text"].mask).all()


def test_images_stay_bytes_on_the_device():
    data = to_device(make_dataset())
    assert data.modalities["image"].values.dtype == jnp.uint8
    assert data.modalities["text"].values.dtype == data.labels.dtype == jnp.int32


def loop_flip_and_shift(images, flip, down, right):
    """Pixel by pixel: where an index leaves the image, it is mirrored at the edge pixel."""
    batch, height, width, _ = images.shape

    def mirrored(index, length):
        index = abs(index)
        return index if index < length else 2 * (length - 1) - index

    out = np.zeros_like(images)
    for n, i, j in np.ndindex(batch, height, width):
        row, column = mirrored(i + down[n], height), mirrored(j + right[n], width)
        out[n, i, j] = images[n, row, width - 1 - column if flip[n] else column]
    return out


def test_flips_and_shifts_mirror_at_the_edges():
    reach = 2
    cases = [(f, d, r) for f in (False, True) for d in range(-reach, reach + 1) for r in range(-reach, reach + 1)]
    flip, down, right = (np.array(column) for column in zip(*cases, strict=True))
    images = np.random.default_rng(0).normal(size=(len(cases), 6, 5, 2)).astype(np.float32)
    got = jit(flip_and_shift, static_argnums=4)(images, flip, down, right, reach)
    np.testing.assert_array_equal(got, loop_flip_and_shift(images, flip, down, right))


@pytest.mark.parametrize(("size", "reach"), [(32, 4), (16, 2), (4, 1)])
def test_every_flip_and_every_shift_within_reach_is_drawn(size, reach):
    """The drawn flip and shift are read off an image whose pixels are all different."""
    image = np.arange(size * size, dtype=np.float32).reshape(1, size, size, 1)
    moves = [(f, d, r) for f in (False, True) for d in range(-reach, reach + 1) for r in range(-reach, reach + 1)]
    flip, down, right = (np.array(column) for column in zip(*moves, strict=True))
    possible = loop_flip_and_shift(np.repeat(image, len(moves), 0), flip, down, right)
    images = jnp.asarray(np.repeat(image, 40 * len(moves), 0))
    drawn = np.asarray(jit(augment_images)(images, jax.random.key(0)))
    table = {shown.tobytes(): move for shown, move in zip(possible, moves, strict=True)}
    seen = [table[shown.tobytes()] for shown in drawn]
    counts = np.array([seen.count(move) for move in moves])
    assert set(seen) == set(moves)
    assert np.abs(counts - 40).max() < 40  # five deviations of a uniform draw are 32


def test_augmentation_depends_on_the_key_and_the_name_alone():
    """The values of one modality are those of the other: they move apart, by the same draws whoever is beside them."""
    image = ModalityBatch(jax.random.normal(jax.random.key(9), (8, 6, 5, 3)))
    text = ModalityBatch(jnp.ones((8, 3), jnp.int32), jnp.ones((8, 3), bool))
    inputs, key, augmented = (
        {"depth": image, "image": image, "text": text},
        jax.random.key(1),
        jit(lambda inputs, names, key: augment(inputs, dict.fromkeys(names, TRANSFORMS), key), static_argnums=1),
    )
    both, other = augmented(inputs, ("depth", "image"), key), augmented(inputs, ("image",), jax.random.key(2))
    assert list(both) == list(inputs)
    np.testing.assert_array_equal(both["text"].values, text.values)
    np.testing.assert_array_equal(other["depth"].values, image.values)
    for name in ("depth", "image"):
        alone = augmented({name: image}, (name,), key)
        np.testing.assert_array_equal(alone[name].values, both[name].values)
    different = (image, both["image"], both["depth"], other["image"])
    assert len({np.asarray(batch.values).tobytes() for batch in different}) == 4


def test_two_epochs_show_an_image_both_ways():
    key, indices = jax.random.key(3), jnp.arange(400)
    first, second, third = (np.asarray(alternating_flip(indices, key, epoch)) for epoch in range(3))
    np.testing.assert_array_equal(second, ~first)
    np.testing.assert_array_equal(third, first)
    assert 150 < first.sum() < 250
    shuffled = np.random.default_rng(0).permutation(400)
    np.testing.assert_array_equal(alternating_flip(jnp.asarray(shuffled), key, 0), first[shuffled])
    assert (np.asarray(alternating_flip(indices, jax.random.key(4), 0)) != first).any()


def test_a_given_flip_takes_the_place_of_the_drawn_one():
    image = jnp.arange(8 * 8, dtype=jnp.float32).reshape(1, 8, 8, 1).repeat(60, 0)
    batch = {"image": ModalityBatch(image)}
    flip = jnp.arange(60) % 2 == 1
    moved = np.asarray(augment(batch, {"image": TRANSFORMS}, jax.random.key(0), flip)["image"].values)
    rising = moved[:, 4, 4, 0] > moved[:, 4, 3, 0]  # the middle is never beyond an edge
    np.testing.assert_array_equal(rising, ~flip)
