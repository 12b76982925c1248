import csv
import dataclasses
from typing import Any

import numpy as np
import pytest

from fusion_bench.config import DataConfig
from fusion_bench.data.captions.tokenizer import UNKNOWN, encode
from fusion_bench.data.dataset import PAD
from fusion_bench.data.load import load_dataset
from fusion_bench.errors import UserError

COUNT, CLASSES = 120, 4
LABELS = np.random.default_rng(0).permutation(np.arange(COUNT) % CLASSES)
SPLIT = np.where(np.arange(COUNT) < 90, "train", "test")


def save(path, **changes):
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "image": rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8),
        "label": LABELS,
        "split": SPLIT,
    }
    np.savez(path, **(arrays | changes))
    return str(path)


@pytest.fixture
def source(tmp_path):
    return save(tmp_path / "mine.npz")


@pytest.fixture
def config(source):
    return DataConfig(source=source, captions="default")


def write_captions(path, captions):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "caption"])
        writer.writerows(enumerate(captions))
    return str(path)


def test_images_captions_and_splits_come_together(config):
    dataset = load_dataset(config)
    assert set(dataset.modalities) == {"image", "text"}
    assert dataset.captions is not None
    assert dataset.captions.channel is not None
    assert len(dataset.captions.texts) == COUNT
    np.testing.assert_array_equal(dataset.classes, LABELS)
    np.testing.assert_array_equal(dataset.labels, LABELS)  # nothing shifts
    assert [len(dataset.splits[name]) for name in ("train", "validation", "test")] == [81, 9, 30]
    np.testing.assert_array_equal(dataset.splits["test"], np.arange(90, COUNT))


def test_text_is_the_captions_in_tokens(config):
    dataset = load_dataset(config)
    captions, text = dataset.captions, dataset.modalities["text"]
    assert captions is not None
    assert (text.kind, text.values.dtype) == ("tokens", np.int32)
    assert text.vocabulary_size == dataset.tokenizers["text"].get_vocab_size() > text.values.max()
    train = dataset.splits["train"]
    lengths = np.count_nonzero(text.values[train], axis=1)
    assert lengths.max() == text.values.shape[1]
    assert lengths.min() < lengths.max()
    np.testing.assert_array_equal(text.values, encode(dataset.tokenizers["text"], captions.texts, text.values.shape[1]))


@pytest.mark.parametrize("captions", ["synergy", "mixed"])
def test_labels_are_the_targets_where_the_channel_shifts(config, captions):
    dataset = load_dataset(dataclasses.replace(config, captions=captions))
    assert dataset.captions is not None
    assert dataset.captions.shifts is not None
    np.testing.assert_array_equal(dataset.classes, LABELS)
    np.testing.assert_array_equal(dataset.labels, (LABELS + dataset.captions.shifts) % CLASSES)
    assert (dataset.labels != dataset.classes).any()


def test_ceilings_are_of_the_datas_own_class_frequencies(tmp_path):
    labels = np.repeat([0, 1, 2, 3], [60, 30, 20, 10])
    parts = np.where(np.arange(COUNT) % 4 == 0, "test", "train")
    source = save(tmp_path / "skewed.npz", label=labels, split=parts)
    dataset = load_dataset(DataConfig(source=source, captions="neutral"))
    assert dataset.captions is not None
    assert dataset.captions.channel is not None
    assert dataset.captions.channel.text_only_ceiling == pytest.approx(0.5)


def test_everything_follows_from_the_configuration(config):
    first, again = load_dataset(config), load_dataset(config)
    assert first.captions is not None
    assert again.captions is not None
    assert first.captions.texts == again.captions.texts
    assert first.tokenizers["text"].to_str() == again.tokenizers["text"].to_str()
    assert first.fingerprint == again.fingerprint


def test_the_fingerprint_tells_any_difference(config, tmp_path):
    swapped = LABELS.copy()
    swapped[[0, 1]] = LABELS[[1, 0]] if LABELS[0] != LABELS[1] else (LABELS[[0, 1]] + 1) % CLASSES
    image = np.load(config.source)["image"]
    image[5, 0, 0, 0] ^= 1
    different = [
        config,
        dataclasses.replace(config, captions="half"),
        dataclasses.replace(config, captions="synergy"),
        dataclasses.replace(config, data_seed=1),
        dataclasses.replace(config, train_size=40),
        dataclasses.replace(config, validation_fraction=0.2),
        dataclasses.replace(config, source=save(tmp_path / "labels.npz", label=swapped)),
        dataclasses.replace(config, source=save(tmp_path / "image.npz", image=image)),
        dataclasses.replace(config, captions=write_captions(tmp_path / "own.csv", ["word"] * COUNT)),
    ]
    datasets = [load_dataset(each) for each in different]
    datasets += [load_dataset(dataclasses.replace(config, augment=("flip",)))]
    assert len({dataset.fingerprint for dataset in datasets}) == len(datasets)


def test_the_data_seed_decides_captions_and_split(config):
    first, other = load_dataset(config), load_dataset(dataclasses.replace(config, data_seed=1))
    assert first.captions is not None
    assert other.captions is not None
    assert first.captions.texts != other.captions.texts
    assert set(first.splits["train"]) != set(other.splits["train"])
    np.testing.assert_array_equal(first.splits["test"], other.splits["test"])


def test_a_test_split_from_train_is_told(config):
    dataset = load_dataset(dataclasses.replace(config, test_from="train", test_size=20))
    assert (SPLIT[dataset.splits["test"]] == "train").all()
    assert "The test examples are drawn from the training examples of mine; its own are unused." in dataset.notes
    assert not any("test examples" in note for note in load_dataset(config).notes)


@pytest.mark.parametrize(
    ("shape", "about"), [({"audio": (2,)}, "audio"), ({"audio": (2,), "sensor": (3,)}, None), ({}, "image")]
)
def test_captions_are_about_the_image_or_the_only_modality(tmp_path, shape, about):
    arrays: Any = {name: np.zeros((COUNT, *each)) for name, each in shape.items()} or {"sensor": np.zeros((COUNT, 1))}
    np.savez(tmp_path / "mine.npz", label=LABELS, **arrays)
    source = tmp_path / "mine.npz" if shape else save(tmp_path / "mine.npz", **arrays)
    captions = load_dataset(DataConfig(source=str(source), captions="default")).captions
    assert captions is not None
    assert (captions.modality, captions.about) == ("text", about)


def test_captions_from_a_file(config, tmp_path):
    texts = [f"a caption number{i} of some length" + " more" * (i % 3) for i in range(COUNT)]
    path = write_captions(tmp_path / "own.csv", texts)
    dataset = load_dataset(dataclasses.replace(config, captions=path))
    captions = dataset.captions
    assert captions is not None
    assert captions.texts == tuple(texts)
    assert captions.channel is captions.words is captions.shifts is None
    np.testing.assert_array_equal(dataset.labels, LABELS)
    with pytest.raises(UserError, match="own"):
        load_dataset(dataclasses.replace(config, captions=write_captions(tmp_path / "own.csv", texts[:-1])))


def test_the_tokenizer_never_sees_a_caption_that_is_not_for_training(config, tmp_path):
    train = set(load_dataset(config).splits["train"].tolist())
    texts = [f"short word{i}" if i in train else f"a secret{i} that is a good deal longer" for i in range(COUNT)]
    path = write_captions(tmp_path / "own.csv", texts)
    dataset = load_dataset(dataclasses.replace(config, captions=path))
    assert dataset.captions is not None
    words = set(dataset.tokenizers["text"].get_vocab())
    assert words == {"[PAD]", "[UNK]", "short", *(f"word{i}" for i in train)}
    values = dataset.modalities["text"].values
    assert values.shape == (COUNT, 2)  # as long as a training caption
    assert (values[dataset.splits["test"]] == UNKNOWN).all()
    assert (values[dataset.splits["validation"]] == UNKNOWN).all()
    assert not np.isin(values[dataset.splits["train"]], (PAD, UNKNOWN)).any()


def test_a_text_of_the_sources_own_is_kept(tmp_path):
    tokens = np.random.default_rng(2).integers(0, 6, (COUNT, 5))
    tokens[:, 0] = 1
    source = save(tmp_path / "own.npz", text=tokens)
    dataset = load_dataset(DataConfig(source=source, kinds={"text": "tokens"}))
    assert dataset.captions is None
    np.testing.assert_array_equal(dataset.modalities["text"].values, tokens)
    assert dataset.modalities["text"].vocabulary_size == 6


@pytest.mark.parametrize(("name", "message"), [("defalt", "did you mean default"), ("nowhere.csv", "nowhere.csv")])
def test_captions_that_are_not_there(config, name, message):
    with pytest.raises(UserError, match=message):
        load_dataset(dataclasses.replace(config, captions=name))
