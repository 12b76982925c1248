import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.data.splits import split, stratified_choice
from fusion_bench.errors import UserError


def dataset(labels, parts):
    labels = np.asarray(labels, np.int32)
    return RawDataset(
        name="numbers",
        modalities={"x": Modality("vector", np.zeros((len(labels), 1), np.float32))},
        labels=labels,
        class_names=tuple(f"class {label}" for label in range(labels.max() + 1)),
        split=np.asarray(parts),
    )


def uniform(per_class, num_classes=5, parts=("train", "test")):
    labels = np.tile(np.arange(num_classes), per_class * len(parts))
    return dataset(labels, np.repeat(parts, per_class * num_classes))


@st.composite
def examples(draw):
    """Draws labels and splits: classes of unequal sizes, in any order; a validation split in some."""
    parts = draw(st.sampled_from([("train", "test"), ("train", "validation", "test")]))
    num_classes = draw(st.integers(2, 4))
    counts = {part: draw(st.lists(st.integers(4, 9), min_size=num_classes, max_size=num_classes)) for part in parts}
    rows = [(label, part) for part in parts for label, count in enumerate(counts[part]) for _ in range(count)]
    rows = draw(st.permutations(rows))
    return [label for label, _ in rows], [part for _, part in rows]


def counts(raw, indices):
    return np.bincount(raw.labels[indices], minlength=len(raw.class_names))


def assert_stratified(raw, subset, pool):
    """Every class is within one of its part of the pool."""
    expected = counts(raw, pool) * len(subset) / len(pool)
    assert np.all(np.abs(counts(raw, subset) - expected) < 1), (counts(raw, subset), expected)


@given(examples(), st.floats(0.05, 0.5), st.integers(0, 2**32))
def test_whole_splits_are_disjoint_exhaustive_stratified_and_repeatable(rows, fraction, seed):
    raw = dataset(*rows)
    splits = split(raw, DataConfig(validation_fraction=fraction, data_seed=seed))
    assert all(indices.dtype == np.int32 and np.all(np.diff(indices) > 0) for indices in splits.values())
    together = np.concatenate(list(splits.values()))
    assert np.array_equal(np.sort(together), np.arange(len(raw.labels)))

    own = {name: np.flatnonzero(raw.split == name) for name in splits}
    assert np.array_equal(splits["test"], own["test"])
    if len(own["validation"]):
        assert np.array_equal(splits["validation"], own["validation"])
    else:
        assert len(splits["validation"]) == max(1, round(fraction * len(own["train"])))
        assert_stratified(raw, splits["validation"], own["train"])
        assert_stratified(raw, splits["train"], own["train"])

    again = split(raw, DataConfig(validation_fraction=fraction, data_seed=seed))
    assert all(np.array_equal(splits[name], again[name]) for name in splits)


@given(examples(), st.data())
def test_sizes_keep_stratified_subsets(rows, data):
    raw = dataset(*rows)
    own = {name: np.flatnonzero(raw.split == name) for name in ("train", "validation", "test")}
    available = len(own["train"]) + len(own["validation"])
    train_size = data.draw(st.integers(available // 2, available))
    test_size = data.draw(st.integers(2 * len(raw.class_names), len(own["test"])))
    splits = split(raw, DataConfig(train_size=train_size, test_size=test_size, data_seed=1))
    assert len(splits["train"]) + len(splits["validation"]) == train_size
    assert len(splits["test"]) == test_size
    assert_stratified(raw, splits["test"], own["test"])
    assert not set(splits["train"]) & set(splits["validation"])
    if len(own["validation"]):
        assert set(splits["validation"]) <= set(own["validation"])
        assert_stratified(raw, splits["train"], own["train"])
        assert_stratified(raw, splits["validation"], own["validation"])
    else:
        assert set(splits["train"]) | set(splits["validation"]) <= set(own["train"])
        assert_stratified(raw, np.concatenate([splits["train"], splits["validation"]]), own["train"])


@given(examples(), st.data())
def test_the_test_split_may_be_drawn_from_the_training_examples(rows, data):
    raw = dataset(*rows)
    own = {name: np.flatnonzero(raw.split == name) for name in ("train", "validation", "test")}
    size = data.draw(st.integers(2 * len(raw.class_names), len(own["train"]) // 2))
    config = DataConfig(test_from="train", test_size=size, data_seed=data.draw(st.integers(0, 5)))
    splits = split(raw, config)
    assert len(splits["test"]) == size
    assert_stratified(raw, splits["test"], own["train"])
    together = np.concatenate([*splits.values()])
    assert np.array_equal(
        np.sort(together), np.union1d(own["train"], own["validation"])
    )  # disjoint; no own test example
    if len(own["validation"]):
        assert np.array_equal(splits["validation"], own["validation"])
    else:
        assert_stratified(raw, splits["validation"], np.setdiff1d(own["train"], splits["test"]))
    again = split(raw, config)
    assert all(np.array_equal(splits[name], again[name]) for name in splits)


def test_a_test_split_from_train_depends_on_the_seed_but_not_on_the_training_subset():
    raw = uniform(100)
    config = DataConfig(test_from="train", test_size=50)
    found = split(raw, config)
    assert np.array_equal(split(raw, dataclasses.replace(config, train_size=100))["test"], found["test"])
    assert not np.array_equal(split(raw, dataclasses.replace(config, data_seed=1))["test"], found["test"])
    with pytest.raises(UserError, match="train_size is 451; there are only 450 examples"):
        split(raw, dataclasses.replace(config, train_size=451))


def test_the_test_examples_of_the_source_are_the_usual_ones():
    raw = uniform(100)
    usual, stated = split(raw, DataConfig(test_size=50)), split(raw, DataConfig(test_size=50, test_from="test"))
    assert all(np.array_equal(usual[name], stated[name]) for name in usual)
    assert set(usual["test"]) <= set(np.flatnonzero(raw.split == "test"))


def test_balanced_classes_stay_balanced():
    raw = uniform(100)
    splits = split(raw, DataConfig(train_size=200, test_size=50))
    assert counts(raw, splits["train"]).tolist() == [36] * 5
    assert counts(raw, splits["validation"]).tolist() == [4] * 5
    assert counts(raw, splits["test"]).tolist() == [10] * 5


def test_the_seed_decides_what_is_held_out_but_not_what_is_tested():
    raw = uniform(100)
    first, second = split(raw, DataConfig(data_seed=0)), split(raw, DataConfig(data_seed=1))
    assert not np.array_equal(first["validation"], second["validation"])
    assert np.array_equal(first["test"], second["test"])


def test_the_test_subset_does_not_depend_on_the_training_subset():
    raw = uniform(100)
    assert np.array_equal(
        split(raw, DataConfig(test_size=50))["test"], split(raw, DataConfig(test_size=50, train_size=100))["test"]
    )


def test_a_smaller_choice_is_a_part_of_a_larger_one():
    labels = np.tile(np.arange(5), 40)
    smaller, larger = (stratified_choice(np.arange(200), labels, size, 3) for size in (50, 100))
    assert set(smaller) < set(larger)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 501}, "train_size is 501; there are only 500 examples"),
        ({"test_size": 501}, "test_size is 501; there are only 500 examples"),
        ({"test_size": 501, "test_from": "train"}, "test_size is 501; there are only 500 examples"),
        ({"test_size": 500, "test_from": "train"}, "no example of class 'class 0' is left to train on"),
        ({"test_from": "train"}, "test_from is train; it needs test_size, the number of test examples"),
        ({"train_size": 9}, "train_size is 9; 5 classes need at least 10 examples"),
        ({"test_size": 9}, "test_size is 9; 5 classes need at least 10 examples"),
        ({"validation_fraction": 0.0}, "validation_fraction is 0; it must be between 0 and 1"),
        ({"validation_fraction": float("nan")}, "validation_fraction is nan; it must be between 0 and 1"),
        ({"validation_fraction": 0.999}, "no example of class 'class 0' is left to train on"),
    ],
)
def test_what_cannot_be_met_is_said_in_one_line(options, message):
    with pytest.raises(UserError) as caught:
        split(uniform(100), DataConfig(**options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_count_a_validation_split_that_the_source_brings():
    raw = uniform(100, parts=("train", "validation", "test"))
    with pytest.raises(UserError, match="only 1000 examples"):
        split(raw, DataConfig(train_size=1001))
    splits = split(raw, DataConfig(train_size=100))
    assert (len(splits["train"]), len(splits["validation"])) == (50, 50)
