"""Examples of the test set: their choice, and what the store keeps of them."""

import dataclasses

import numpy as np
import pytest

from fusion_bench.data.load import load_dataset
from fusion_bench.metrics.classification import accuracy
from fusion_bench.store.examples import Example, read_examples, write_examples
from fusion_bench.study import examples
from tests.tasks import make_dataset


def test_a_study_keeps_examples(plain):
    dataset = load_dataset(plain.config.data)
    assert dataset.captions is not None
    kept = read_examples(plain.config.out, dataset.fingerprint)
    assert examples.TYPICAL <= len(kept) <= examples.TYPICAL + 2 * examples.ERRORS  # of concat and late-posthoc
    test = dataset.splits["test"]
    for example in kept:
        index = test[example.position]
        np.testing.assert_array_equal(example.image, dataset.modalities["image"].values[index])
        assert example.caption == dataset.captions.texts[index]
        assert example.name == example.target == dataset.class_names[dataset.labels[index]]
    first = [example.name for example in kept[: examples.TYPICAL]]
    assert sorted(first) == sorted(dataset.class_names)
    stored = plain.store.predictions(plain.stored("concat").id)
    logits, labels = stored["test_logits"], stored["test_labels"]
    errors = set(examples.confident_errors(logits, labels))
    assert accuracy(logits, labels) < 1
    assert errors
    assert errors <= {example.position for example in kept}


def test_errors_are_the_most_confident():
    logits = np.array([[9.0, 0.0], [0.0, 1.0], [0.0, 5.0], [0.0, 2.0], [3.0, 0.0]])
    labels = np.array([0, 0, 0, 0, 0])
    assert examples.confident_errors(logits, labels) == [2, 3, 1]


def test_shifted_targets_are_told_apart(shifted):
    dataset = load_dataset(shifted.config.data)
    kept = read_examples(shifted.config.out, dataset.fingerprint)
    assert any(example.name != example.target for example in kept)


def test_large_images_are_made_coarser(plain):
    dataset = load_dataset(plain.config.data)
    wide = np.zeros((len(dataset.labels), 100, 200, 3), np.uint8)
    image = dataclasses.replace(dataset.modalities["image"], values=wide)
    changed = dataclasses.replace(dataset, modalities={**dataset.modalities, "image": image})
    assert examples.examples_of(changed, [0])[0].image.shape == (25, 50, 3)


def test_data_without_captions_have_no_examples():
    assert examples.examples_of(make_dataset(), [0]) == []


@pytest.mark.parametrize("damage", [lambda whole: b"broken", lambda whole: b"", lambda whole: whole[: len(whole) // 2]])
def test_what_cannot_be_read_is_no_example(damage, tmp_path):
    example = Example(3, np.zeros((8, 8, 3), np.uint8), "a caption", "cat", "dog")
    write_examples(tmp_path, "abc", [example])
    (read,) = read_examples(tmp_path, "abc")
    assert (read.position, read.caption, read.name, read.target) == (3, "a caption", "cat", "dog")
    assert read_examples(tmp_path, "other") == []
    (path,) = (tmp_path / "examples").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert read_examples(tmp_path, "abc") == []
