"""Damaged training data: what is drawn, what it leaves alone, and that models learn from it."""

import dataclasses
import itertools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import DataConfig, ModelConfig, TrainingConfig
from fusion_bench.data.batches import draw_texts, gather, normalization_stats, to_device
from fusion_bench.data.captions.tokenizer import encode
from fusion_bench.data.damage import damage, misaligned_rows, missing_modalities, moved_modalities
from fusion_bench.data.dataset import PAD, Alternatives, Dataset, Modality
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import ConfigError
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.study.provenance import describe_data
from fusion_bench.training.step import make_functions
from tests.tasks import jit

COUNT, CLASSES = 300, 4
LABELS = np.random.default_rng(0).permutation(np.arange(COUNT) % CLASSES)
RATES = (0.1, 0.3, 0.6, 1.0)
TRAIN = np.flatnonzero(np.arange(COUNT) % 5 != 2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "mine.npz"
    image = np.random.default_rng(1).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    np.savez(path, image=image, label=LABELS, split=np.where(np.arange(COUNT) < 240, "train", "test"))
    return path


@pytest.fixture(scope="module")
def load(source):
    return lambda **changes: load_dataset(dataclasses.replace(DataConfig(str(source), captions="mixed"), **changes))


@pytest.fixture(scope="module")
def clean(load):
    return load()


def make_dataset(**changes) -> Dataset:
    """A modality of each kind; a sequence with padding and one without; texts of which some examples have several."""
    rng = np.random.default_rng(2)
    count = rng.integers(1, 4, COUNT, np.int32)
    texts = rng.integers(1, 9, (count.sum(), 5), np.int32)
    first = (np.cumsum(count) - count).astype(np.int32)
    modalities = {
        "text": Modality("tokens", texts[first], 9, alternatives=Alternatives(texts, first, count)),
        "image": Modality("grid", rng.integers(0, 256, (COUNT, 8, 8, 3), np.uint8)),
        "audio": Modality("grid", rng.normal(3, 2, (COUNT, 4, 2, 1)).astype(np.float32)),
        "sensor": Modality("vector", rng.normal(-1, 5, (COUNT, 3)).astype(np.float32)),
        "motion": Modality("sequence", rng.normal(2, 3, (COUNT, 6, 2)).astype(np.float32)),
        "pose": Modality(
            "sequence",
            rng.normal(-4, 2, (COUNT, 6, 2)).astype(np.float32),
            mask=np.arange(6) <= np.arange(COUNT)[:, None] % 5,
        ),
    }
    others = np.setdiff1d(np.arange(COUNT), TRAIN)
    splits: dict[Any, np.ndarray] = {"train": TRAIN, "validation": others[::2], "test": others[1::2]}
    labels = LABELS.astype(np.int32)
    fields: Any = {"modalities": modalities, "splits": splits, "labels": labels, "classes": labels, **changes}
    return Dataset("mine", class_names=tuple("abcd"), **fields)


def missing_of(dataset, name) -> np.ndarray:
    missing = dataset.modalities[name].missing
    assert missing is not None
    return missing


def arrays_of(modality):
    """Everything that an example has of a modality: values, steps, and the bytes of all of its texts."""
    found = [modality.values.reshape(COUNT, -1)]
    if modality.kind == "sequence":
        found.append(np.ones(modality.values.shape[:2], bool) if modality.mask is None else modality.mask)
    if modality.alternatives is not None:
        values, first, count = modality.alternatives
        texts = [values[start : start + n].tobytes() for start, n in zip(first, count, strict=True)]
        found.append(np.array(texts, object)[:, None])
    return found


def is_same(modality, other, rows):
    pairs = zip(arrays_of(modality), arrays_of(other), strict=True)
    return all((one[rows] == another[rows]).all() for one, another in pairs)


# Misaligned pairs


def test_each_training_example_is_chosen_with_the_probability_and_no_other():
    train = np.arange(0, 40_000, 2)
    rows = misaligned_rows(40_000, train, 0.3, seed=0)
    is_moved = rows != np.arange(40_000)
    assert not is_moved[1::2].any()
    assert is_moved[train].mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / len(train)))
    assert (misaligned_rows(40_000, train, 1.0, seed=0)[train] != train).all()


@pytest.mark.parametrize("seed", range(3))
def test_chosen_examples_exchange_their_texts_along_one_cycle(seed):
    rows = misaligned_rows(COUNT, TRAIN, 0.3, seed)
    chosen = np.flatnonzero(rows != np.arange(COUNT))
    np.testing.assert_array_equal(np.sort(rows[chosen]), chosen)
    visited, at = [], chosen[0]
    while at not in visited:
        visited.append(at)
        at = rows[at]
    assert sorted(visited) == chosen.tolist()


def test_the_other_example_is_independent_of_the_class():
    rows = misaligned_rows(40_000, np.arange(40_000), 0.5, seed=1)
    chosen = np.flatnonzero(rows != np.arange(40_000))
    classes = np.arange(40_000) % 5
    share = (classes[rows[chosen]] == classes[chosen]).mean()
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / len(chosen)))


def test_what_is_misaligned_stays_so_at_a_higher_probability():
    found = [misaligned_rows(COUNT, TRAIN, rate, seed=3) != np.arange(COUNT) for rate in RATES]
    for fewer, more in itertools.pairwise(found):
        assert (fewer <= more).all()
        assert fewer.sum() < more.sum()
    smaller = misaligned_rows(COUNT, TRAIN[::2], 0.3, seed=3) != np.arange(COUNT)
    np.testing.assert_array_equal(smaller[TRAIN[::2]], found[1][TRAIN[::2]])
    assert (misaligned_rows(COUNT, TRAIN, 0.3, seed=4) != misaligned_rows(COUNT, TRAIN, 0.3, seed=3)).any()


def test_texts_are_exchanged_and_labels_stay_with_the_images(load, clean):
    damaged = load(misalign=0.4)
    rows = misaligned_rows(COUNT, clean.splits["train"], 0.4, seed=0)
    assert 60 < (rows != np.arange(COUNT)).sum() < 120
    for name in ("labels", "classes"):
        np.testing.assert_array_equal(getattr(damaged, name), getattr(clean, name))
    np.testing.assert_array_equal(damaged.modalities["image"].values, clean.modalities["image"].values)
    np.testing.assert_array_equal(damaged.modalities["text"].values, clean.modalities["text"].values[rows])
    np.testing.assert_array_equal(damaged.captions.words, clean.captions.words[rows])
    np.testing.assert_array_equal(damaged.captions.shifts, clean.captions.shifts[rows])
    tokens = encode(damaged.tokenizers["text"], damaged.captions.texts, damaged.modalities["text"].values.shape[1])
    np.testing.assert_array_equal(damaged.modalities["text"].values, tokens)
    follows = (damaged.classes + damaged.captions.shifts) % CLASSES == damaged.labels
    for split, indices in damaged.splits.items():
        assert follows[indices].all() == (split != "train")
        np.testing.assert_array_equal(indices, clean.splits[split])


def test_without_captions_all_modalities_but_the_first_image_move_together():
    clean = make_dataset()
    damaged = damage(clean, DataConfig(misalign=0.5))
    rows = misaligned_rows(COUNT, TRAIN, 0.5, seed=0)
    assert moved_modalities(clean) == ("audio", "motion", "pose", "sensor", "text")
    assert damaged.modalities["image"] is clean.modalities["image"]
    for name in moved_modalities(clean):
        for got, before in zip(*(arrays_of(d.modalities[name]) for d in (damaged, clean)), strict=True):
            np.testing.assert_array_equal(got, before[rows])
    data, train = to_device(damaged), jnp.asarray(TRAIN)
    inputs = draw_texts(gather(data, train)[0], data, train, jax.random.key(0))
    texts = clean.modalities["text"].alternatives
    assert texts is not None
    for row, text in zip(rows[TRAIN], np.asarray(inputs["text"].values), strict=True):
        assert text.tolist() in texts.values[texts.first[row] :][: texts.count[row]].tolist()


@pytest.mark.parametrize(("names", "stays"), [(("sensor", "motion"), "motion"), (("text", "audio", "image"), "image")])
def test_which_modality_the_label_stays_with(names, stays):
    known = make_dataset().modalities
    dataset = make_dataset(modalities={name: known[name] for name in names})
    assert {*moved_modalities(dataset)} == {*names} - {stays}


# Missing modalities


def test_a_modality_is_missing_with_the_probability_and_one_is_kept():
    count, rate = 40_000, 0.4
    found = missing_modalities("abc", count, np.arange(count), rate, seed=0)
    patterns = np.stack([found[name] for name in "abc"]).T
    for pattern in itertools.product((False, True), repeat=3):
        expected = np.prod([rate if is_missing else 1 - rate for is_missing in pattern])
        if sum(pattern) == 2:
            expected += rate**3 / 3
        share = (patterns == pattern).all(1).mean()
        if all(pattern):
            assert share == 0
        else:
            assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / count)), pattern


def test_what_is_missing_stays_so_at_a_higher_probability():
    found = [missing_modalities(["image", "text"], COUNT, TRAIN, rate, seed=0) for rate in RATES]
    for fewer, more in itertools.pairwise(found):
        for name in ("image", "text"):
            assert (fewer[name] <= more[name]).all()
            assert fewer[name].sum() < more[name].sum()
    assert (found[-1]["image"] ^ found[-1]["text"])[TRAIN].all()
    outside = np.setdiff1d(np.arange(COUNT), TRAIN)
    assert not any(rows[outside].any() for each in found for rows in each.values())
    smaller = missing_modalities(["image", "text"], COUNT, TRAIN[::2], 0.3, seed=0)
    np.testing.assert_array_equal(smaller["text"][TRAIN[::2]], found[1]["text"][TRAIN[::2]])
    other = missing_modalities(["image", "text"], COUNT, TRAIN, 0.3, seed=1)
    assert (other["text"] != found[1]["text"]).any()


def test_the_draws_of_modalities_are_independent_of_each_other_and_of_misalignment():
    count = 40_000
    train = np.arange(count)
    missing = missing_modalities(["image", "text", "audio", "video"], count, train, 0.3, seed=0)
    rows = [*missing.values(), misaligned_rows(count, train, 0.3, seed=0) != train]
    correlations = np.corrcoef(np.stack(rows))
    # that one of four is kept lowers it by a hundredth
    assert np.abs(correlations - np.eye(5)).max() < 0.03
    alone = missing_modalities(["image", "text"], count, train, 0.1, seed=0)
    assert (alone["text"] != missing_modalities(["text", "audio"], count, train, 0.1, seed=0)["text"]).mean() < 0.02


@pytest.fixture(scope="module")
def lacking():
    return damage(make_dataset(), DataConfig(missing=0.4))


@pytest.fixture(scope="module")
def batch(lacking):
    """The training examples in a batch, each with one of its texts."""
    data, train = to_device(lacking), jnp.asarray(TRAIN)
    inputs, labels = gather(data, train)
    np.testing.assert_array_equal(labels, LABELS[TRAIN])
    return draw_texts(inputs, data, train, jax.random.key(0))


@pytest.mark.parametrize("name", ["text", "image", "audio", "sensor", "motion", "pose"])
def test_a_missing_modality_is_the_mean_or_nothing(lacking, batch, name):
    before, after = make_dataset().modalities[name], lacking.modalities[name]
    rows = missing_modalities(lacking.modalities, COUNT, TRAIN, 0.4, seed=0)[name]
    np.testing.assert_array_equal(after.missing, rows)
    assert is_same(after, before, ~rows)
    assert (after.values.dtype, after.spec) == (before.values.dtype, before.spec)
    values, mask = jax.tree.map(lambda array: np.asarray(array)[rows[TRAIN]], batch[name])
    assert (mask is None) == (name in ("image", "audio", "sensor"))
    if mask is not None:
        assert not mask.any()
    if before.kind == "tokens":
        assert (values == PAD).all()
        return
    # 8 bits are rounded
    np.testing.assert_allclose(values, 0, atol=0.5 / before.values.std() if name == "image" else 1e-6)
    here = TRAIN[~rows[TRAIN]]
    kept = before.values[here] if before.mask is None else before.values[here][before.mask[here]]
    for got, expected in zip(normalization_stats(after, TRAIN), (np.mean, np.std), strict=True):
        by_channel = [expected(kept[..., channel].astype(np.float64)) for channel in range(kept.shape[-1])]
        np.testing.assert_allclose(got, by_channel, rtol=1e-5)


def test_only_padding_needs_a_mask_of_whoever_predicts(lacking):
    inputs = describe_data(lacking, DataConfig(missing=0.4))["inputs"]
    assert {name for name, facts in inputs.items() if facts["masked"]} == {"pose"}


def test_captions_tell_what_is_missing(load, clean):
    damaged = load(missing=0.3)
    is_missing = missing_of(damaged, "text")
    assert 40 < is_missing.sum() < 100
    assert damaged.captions.texts == tuple(
        "" if gone else text for gone, text in zip(is_missing, clean.captions.texts, strict=True)
    )
    assert damaged.tokenizers["text"].to_str() == clean.tokenizers["text"].to_str()
    np.testing.assert_array_equal(damaged.labels, clean.labels)


def test_missing_modalities_of_misaligned_pairs(load):
    both, misaligned, missing = load(misalign=0.5, missing=0.3), load(misalign=0.5), load(missing=0.3)
    gone = missing_of(missing, "text")
    np.testing.assert_array_equal(missing_of(both, "text"), gone)
    expected = np.where(gone[:, None], PAD, misaligned.modalities["text"].values)
    np.testing.assert_array_equal(both.modalities["text"].values, expected)


def test_transformers_learn_from_what_is_left(lacking):
    """The common test of strategies has examples without words and steps, too."""
    chosen = {name: lacking.modalities[name] for name in ("image", "text", "motion")}
    dataset = dataclasses.replace(lacking, modalities=chosen)
    config = ModelConfig(encoder="micro", text_encoder="transformer", dtype="float32")
    training = TrainingConfig(batch_size=30, learning_rate=0.01)
    functions = make_functions(StrategySpec("concat"), dataset.task, config, training, len(TRAIN))

    @jit
    def losses(seed, data, order, steps):
        state, first = functions.train(functions.init(seed), data, order, seed, steps)
        state, last = functions.train(state, data, order, seed, steps)
        return state, first, last

    state, first, last = losses(jnp.int32(0), to_device(dataset), jnp.asarray(TRAIN), jnp.int32(8))
    assert last < first
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))


# Both


def test_damage_is_part_of_the_data_and_none_is_none(load, clean):
    assert load(misalign=0.0, missing=0.0).fingerprint == clean.fingerprint
    dataset = make_dataset()
    assert damage(dataset, DataConfig()) is dataset
    found = [load(misalign=0.2), load(misalign=0.3), load(missing=0.2), load(missing=0.3), load(misalign=0.2)]
    assert len({each.fingerprint for each in (clean, *found)}) == 5
    assert found[0].fingerprint == found[-1].fingerprint


@pytest.mark.parametrize("options", [{"misalign": 0.5}, {"missing": 0.5}])
def test_validation_and_test_are_not_damaged(options):
    clean, damaged = make_dataset(), damage(make_dataset(), DataConfig(**options))
    kept = np.setdiff1d(np.arange(COUNT), TRAIN)
    for name, modality in clean.modalities.items():
        assert is_same(damaged.modalities[name], modality, kept)


def test_a_source_without_an_image_of_its_own(tmp_path):
    """Texts of a file, several an example, move and go missing as one."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", sensor=rng.normal(size=(COUNT, 3)), label=LABELS)
    lines = [json.dumps({"id": i, "caption": [f"word{i % 7} first", f"other{i % 5}"]}) for i in range(COUNT)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    config = DataConfig(str(tmp_path / "s.npz"), captions=str(tmp_path / "c.jsonl"))
    clean, damaged = load_dataset(config), load_dataset(dataclasses.replace(config, misalign=0.5, missing=0.3))
    rows = misaligned_rows(COUNT, clean.splits["train"], 0.5, seed=0)
    gone = missing_of(damaged, "text")
    assert gone.any()
    expected = [t[rows] for t in arrays_of(clean.modalities["text"])]
    for got, before in zip(arrays_of(damaged.modalities["text"]), expected, strict=True):
        np.testing.assert_array_equal(got[~gone], before[~gone])
    empty = np.zeros_like(clean.modalities["text"].values[0]).tobytes()
    assert {*arrays_of(damaged.modalities["text"])[1][gone].ravel()} == {empty}
    facts = describe_data(damaged, dataclasses.replace(config, misalign=0.5, missing=0.3))
    assert facts["misaligned_modalities"] == ["text"]
    assert not {"misaligned_ceilings", "missing_ceiling"} & {*facts}  # no channel


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"misalign": 1e-9}, "misalign is 1e-09; of 216 training examples it misaligns none"),
        ({"missing": 1e-9}, "missing is 1e-09; of 216 training examples none lacks a modality"),
        ({"misalign": 1.5}, "misalign is 1.5; it must be at least 0 and at most 1"),
        ({"missing": -0.1}, "missing is -0.1; it must be at least 0 and at most 1"),
        ({"missing": math.nan}, "missing is nan; it must be at least 0 and at most 1"),
        ({"missing": 0.2, "captions": "none"}, "missing is 0.2; it needs two modalities, and mine has one, image"),
        ({"misalign": 1.0, "captions": "none"}, "misalign is 1; it needs two modalities, and mine has one, image"),
    ],
)
def test_damage_that_cannot_be(load, options, message):
    with pytest.raises(ConfigError) as error:
        load(**options)
    assert str(error.value) == message


def test_a_modality_that_no_example_has_is_refused():
    train = np.flatnonzero(missing_modalities(["image", "text"], COUNT, TRAIN, 1.0, seed=0)["text"])[:5]
    known = make_dataset()
    dataset = make_dataset(
        modalities={name: known.modalities[name] for name in ("image", "text")}, splits={**known.splits, "train": train}
    )
    with pytest.raises(ConfigError, match="missing is 1; text is missing from all 5 training examples"):
        damage(dataset, DataConfig(missing=1.0))
