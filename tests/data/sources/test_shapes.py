import hashlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fusion_bench.data.sources.shapes import CLASS_NAMES, draw_audio, draw_images, load_shapes


@pytest.fixture(scope="module")
def small():
    return load_shapes(300, 105, audio=True)


def test_shapes_types_and_balance(small):
    assert small.modalities["image"].values.shape == (405, 32, 32, 3)
    assert small.modalities["image"].values.dtype == np.uint8
    assert small.modalities["audio"].values.shape == (405, 16, 16, 1)
    assert small.modalities["audio"].values.dtype == np.float32
    assert small.labels.dtype == np.int32
    assert [name for name, modality in small.modalities.items() if modality.augment] == ["image"]
    assert np.bincount(small.labels[small.split == "train"]).tolist() == [30] * 10
    assert sorted(np.bincount(small.labels[small.split == "test"]).tolist()) == [10] * 5 + [11] * 5


def test_audio_changes_neither_images_nor_labels(small):
    without = load_shapes(300, 105)
    assert np.array_equal(without.modalities["image"].values, small.modalities["image"].values)
    assert np.array_equal(without.labels, small.labels)


def test_the_seed_decides():
    other = load_shapes(300, 105, seed=1)
    assert not np.array_equal(other.labels, load_shapes(300, 105).labels)
    assert np.array_equal(other.modalities["image"].values, load_shapes(300, 105, seed=1).modalities["image"].values)


def test_the_same_bytes_on_every_platform():
    """A change of these digests changes every number that was measured on shapes."""
    labels = np.arange(40, dtype=np.int32) % 10
    images = draw_images(labels, np.random.default_rng(0), 0.5, 0.2)
    audio = draw_audio(labels, np.random.default_rng(0), 0.5)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "7fbe08ad55063b65"
    assert hashlib.sha256(audio.tobytes()).hexdigest()[:16] == "938ac6b82192eed4"


# the area of a figure of radius 1, from school geometry
AREAS = {
    "circle": np.pi * 0.85**2,
    "ring": np.pi * (0.92**2 - 0.48**2),
    "ellipse": np.pi / 1.6,
    "semicircle": np.pi / 2,
    "triangle": 3 * np.sqrt(3) * 0.5**2,
    "square": 1.4**2,
    "cross": 2 * 1.9 * 0.6 - 0.6**2,
}


def test_figures_are_what_they_are_called():
    """Clean figures: how large they are, and whether their middle is their own."""
    labels = np.repeat(np.arange(10, dtype=np.int32), 40)
    images = draw_images(labels, np.random.default_rng(0), 0.0, 0.0).astype(np.float32)
    ground = np.median(images[:, [0, 0, -1, -1], [0, -1, 0, -1]], axis=1)
    change = np.abs(images - ground[:, None, None]).max(-1)
    inside = change > change.max((1, 2), keepdims=True) / 2
    row, column = np.indices(inside.shape[1:])
    for label, name in enumerate(CLASS_NAMES):
        masks = inside[labels == label]
        area = masks.sum((1, 2))
        if name in AREAS:
            assert np.median(area) / 11.5**2 == pytest.approx(AREAS[name], rel=0.15), name
        middle = [np.rint((masks * axis).sum((1, 2)) / area).astype(int) for axis in (row, column)]
        filled = masks[np.arange(len(masks)), middle[0], middle[1]].mean()
        assert filled < 0.1 if name == "ring" else filled > 0.9 or name == "crescent", name


def test_difficulty_disturbs_the_corners():
    labels = np.zeros(300, np.int32)
    corners = [draw_images(labels, np.random.default_rng(0), level)[:, :3, :3] for level in (0.0, 0.3, 0.6)]
    spread = [corner.astype(np.float32).std(axis=(1, 2)).mean() for corner in corners]
    assert spread[0] < 2 < spread[1] < 0.7 * spread[2]


def test_sound_tells_half_of_the_classes():
    labels = np.arange(3000, dtype=np.int32) % 10
    sound = draw_audio(labels, np.random.default_rng(0)).reshape(3000, -1)
    accuracy = (
        LogisticRegression(max_iter=40, tol=1e-2, C=0.01)
        .fit(sound[:2000], labels[:2000])
        .score(sound[2000:], labels[2000:])
    )
    assert 0.35 < accuracy < 0.75
