"""Channels of what people said: reading, counting, and captions paired with those of the drawn channel."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_bench.config import DataConfig
from fusion_bench.data import load
from fusion_bench.data.captions import speaker
from fusion_bench.data.captions.channel import Channel, make_channel, preview, sample
from fusion_bench.data.captions.lexicon import lexicon_for
from fusion_bench.data.captions.spec import ChannelSpec, parse_spec
from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.errors import UserError

NAMES = ("cat", "dog", "red fox")
LABELS = np.array([0, 1, 2, 1, 0, 2, 1, 0], np.int32)
SPLIT = np.array(["train"] * 6 + ["test"] * 2)
SAID = [0, 1, 1, 0, 0, 2, 1, 2]


def raw(ids: tuple[str, ...] = ()) -> RawDataset:
    values = np.zeros((len(LABELS), 1), np.float32)
    return RawDataset("numbers", {"x": Modality("vector", values)}, LABELS, NAMES, SPLIT, ids=ids)


def rows() -> pd.DataFrame:
    of = {"id": np.arange(8), "split": SPLIT, "label": [NAMES[y] for y in LABELS], "named": [NAMES[y] for y in SAID]}
    return pd.DataFrame(of)


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


ALL = np.arange(8)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_what_people_said_is_read_from_rows_in_any_order(tmp_path, ending):
    shuffled = rows().drop(columns="split").sample(frac=1, random_state=1)
    found = speaker.read_named(write(shuffled, tmp_path / f"people.{ending}"), raw(), ALL)
    assert found.tolist() == SAID


def test_only_the_examples_of_the_splits_need_a_row(tmp_path):
    path = write(rows().iloc[2:5], tmp_path / "some.csv")
    found = speaker.read_named(path, raw(), np.array([2, 4]))
    assert found.tolist() == [-1, -1, SAID[2], -1, SAID[4], -1, -1, -1]


def test_rows_are_found_by_the_names_that_a_source_has(tmp_path):
    ids = tuple(f"{split}_{i}" for i, split in enumerate(SPLIT))
    table = rows().assign(id=ids)
    more = table.iloc[:1].assign(id="train_99", label="wolf", named="wolf")  # of an example that the source lacks
    path = write(pd.concat([table, more]), tmp_path / "named.csv")
    assert speaker.read_named(path, raw(ids), ALL).tolist() == SAID


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    table = rows().astype({column: object})
    table.loc[row, column] = value
    return table


FAULTY = {
    "an unknown name": (changed("named", 3, "dogg"), "named of id 3: unknown class 'dogg'; did you mean dog?"),
    "an unknown label": (changed("label", 3, "red"), "label of id 3: unknown class 'red'; did you mean red fox?"),
    "no name": (changed("named", 3, None), "named of id 3: unknown class"),
    "a number": (changed("named", 3, 1), "named of id 3: unknown class '1'; choose from cat, dog, red fox"),
    "a duplicate": (changed("id", 3, 4), "1 id duplicate (4); each id has one row"),
    "a missing one": (rows().drop(index=3), "1 id missing (3); each example of the splits needs a row"),
    "out of range": (changed("id", 3, 8), "1 id out of range (8); ids are 0..7"),
    "of more data": (pd.concat([rows(), rows().assign(id=ALL + 8)]), "8 ids out of range (8, 9, 10, …); ids are 0..7"),
    "another order": (
        rows().assign(id=np.roll(ALL, 1)),
        "7 labels not that of the source (id 0: cat in the source, dog in the file, id 1: dog in the source, ",
    ),
    "one other label": (
        changed("label", 3, "cat"),
        "1 label not that of the source (id 3: dog in the source, cat in the file); the rows must be of these data",
    ),
    "another split": (
        changed("split", 5, "test"),
        "1 split not that of the source (id 5: train in the source, test in the file)",
    ),
    "an unknown split": (
        changed("split", 5, "tset"),
        "1 split unknown (id 5: 'tset'); train, validation or test is right",
    ),
    "no column named": (rows().drop(columns="named"), "has no column named; its columns are id, split, label"),
    "no column label": (rows().drop(columns="label"), "has no column label; its columns are id, split, named"),
    "nothing": (
        pd.DataFrame({"a": [1]}),
        "has no column id and no column label and no column named; its columns are a",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_file_that_is_not_of_these_data_is_refused_in_one_line(tmp_path, fault):
    table, message = FAULTY[fault]
    path = write(table, tmp_path / "people.csv")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        speaker.read_named(path, raw(), ALL)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no such file; it has id, label, named$"):
        speaker.read_named(tmp_path / "people.csv", raw(), ALL)
    with pytest.raises(UserError, match=r"must end in \.csv"):
        speaker.read_named(tmp_path / "people.txt", raw(), ALL)


def test_a_validation_row_is_one_of_training_for_a_source_without_validation(tmp_path):
    path = write(changed("split", 5, "validation"), tmp_path / "people.csv")
    assert speaker.read_named(path, raw(), ALL).tolist() == SAID


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_names_are_counted_with_half_an_example_more(pairs):
    classes, named = (np.array([pair[i] for pair in pairs], np.int32) for i in (0, 1))
    found = speaker.count_confusion(named, classes, 4)
    for y in range(4):
        of_class = [n for c, n in pairs if c == y]
        for n in range(4):
            assert found[y, n] == pytest.approx((of_class.count(n) + 0.5) / (len(of_class) + 2))
    assert (found > 0).all()


@st.composite
def speaking(draw: st.DrawFn) -> tuple[ChannelSpec, np.ndarray]:
    """Draws a channel with a speaker, and the confusion of that."""
    count, named = draw(st.integers(2, 5)), draw(st.floats(0, 1))
    spec = ChannelSpec(
        "any",
        named=named,
        grouped=draw(st.floats(0, 1)) * (1 - named),
        partition=draw(st.sampled_from(["coarse", "contrast", "pairs"])),
        shift=draw(st.floats(0, 1)),
        speaker="people.csv",
    )
    rows = draw(st.lists(st.lists(st.floats(0.01, 1), min_size=count, max_size=count), min_size=count, max_size=count))
    return spec, np.array(rows) / np.sum(rows, axis=1, keepdims=True)


@settings(max_examples=40)
@given(speaking())
def test_words_follow_from_the_confusion_by_walking_through_every_choice(drawn):
    spec, confusion = drawn
    lexicon = lexicon_for([f"c{i}" for i in range(len(confusion))])
    channel = Channel(spec, lexicon, np.full(len(confusion), 1 / len(confusion)), confusion)
    rest = 1 - spec.named - spec.grouped
    assert spec.partition is not None
    for y in range(len(confusion)):
        for w, word in enumerate(channel.words):
            expected = 0.0
            for told, probability in enumerate(confusion[y]):
                nouns, groups = lexicon.nouns[told], lexicon.partitions[spec.partition]
                if word in nouns:
                    expected += probability * spec.named / len(nouns)
                elif word in groups:
                    expected += probability * spec.grouped * (told in groups[word])
                elif word not in {noun for each in lexicon.nouns for noun in each}:
                    expected += probability * rest / 8
            assert channel.word_probabilities[y, w] == pytest.approx(expected, abs=1e-12)


def test_a_speaker_who_errs_as_the_drawn_channel_does_is_that_channel():
    confusion = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    said, drawn = make_channel("human:people.csv", NAMES, None, confusion), make_channel("default", NAMES)
    np.testing.assert_allclose(said.table, drawn.table, atol=1e-15)
    assert (said.bits, said.text_only_ceiling) == pytest.approx((drawn.bits, drawn.text_only_ceiling))
    assert said.decomposition == pytest.approx(drawn.decomposition)
    assert [of.tolist() for of in said.word_types] == [of.tolist() for of in drawn.word_types]


def test_captions_of_a_speaker_are_paired_with_those_of_the_drawn_channel():
    """Someone who always names the class says to the letter what a channel without errors says."""
    classes = np.arange(3000) % 3
    drawn = sample(make_channel("mixed:wrong=0", NAMES), classes, 5)
    channel = make_channel("mixed:speaker=people.csv", NAMES, None, np.full((3, 3), 1 / 3))
    said = sample(channel, classes, 5, classes)
    assert said.texts == drawn.texts
    np.testing.assert_array_equal(said.words, drawn.words)
    named = np.where(classes == 0, 1, classes)  # every cat is a dog
    other = sample(channel, classes, 5, named)
    np.testing.assert_array_equal(other.targets, drawn.targets)
    np.testing.assert_array_equal(other.words[classes != 0], drawn.words[classes != 0])
    nouns = {noun: y for y, of in enumerate(channel.lexicon.nouns) for noun in of}
    speaks_of = [(nouns.get(channel.words[w]), y) for w, y in zip(other.words, named, strict=True)]
    assert {pair for pair in speaks_of if pair[0] is not None} == {(1, 1), (2, 2)}
    is_noun = [[channel.words[w] in nouns for w in each.words] for each in (other, drawn)]
    assert is_noun[0] == is_noun[1]  # `named` is decided by the same numbers
    differs = np.flatnonzero([a != b for a, b in zip(other.texts, drawn.texts, strict=True)])
    for i in differs:  # in one word
        assert other.texts[i] == drawn.texts[i].replace(channel.words[drawn.words[i]], channel.words[other.words[i]])


def test_a_channel_without_what_people_said_can_still_be_drawn_from():
    confusion = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    channel = make_channel("clean:speaker=people.csv", NAMES, None, confusion)
    shown = preview(channel, NAMES, 300, 0)
    name_of = {noun: name for name, nouns in zip(NAMES, channel.lexicon.nouns, strict=True) for noun in nouns}
    said = {(y, name_of[w]) for _, y, w, *_ in shown}
    assert said == {("cat", "dog"), ("dog", "cat"), ("dog", "dog"), ("red fox", "red fox")}


@pytest.mark.parametrize("name", ["human:people.csv", "default"])
def test_a_confusion_is_that_of_a_speaker(name):
    confusion = None if name.startswith("human") else np.eye(3)
    with pytest.raises(ValueError, match="a confusion if and only if it has a speaker"):
        make_channel(name, NAMES, None, confusion)


COUNT = 400


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A source, what people said of it, and the path of the file."""
    folder, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    labels, split = rng.permutation(COUNT) % 4, np.where(np.arange(COUNT) < 300, "train", "test")
    err = rng.random(COUNT) < np.where(split == "train", 0.3, 0.1)
    named = np.where(err, (labels + 1 + (rng.random(COUNT) < 0.2)) % 4, labels)
    names = np.array(["a", "b", "c", "d"])
    image = rng.integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    np.savez(folder / "mine.npz", image=image, label=labels, split=split, class_names=names)
    people = write(
        pd.DataFrame({"id": np.arange(COUNT), "split": split, "label": names[labels], "named": names[named]}),
        folder / "people.csv",
    )
    return DataConfig(str(folder / "mine.npz"), captions=f"human:{people}"), named, people


def test_captions_of_a_dataset_speak_of_what_people_said(mine):
    config, named, people = mine
    dataset = load.load_dataset(dataclasses.replace(config, captions=f"clean:speaker={people}"))
    assert dataset.captions is not None
    channel, words = dataset.captions.channel, dataset.captions.words
    assert channel is not None
    assert words is not None
    of_word = {noun: y for y, nouns in enumerate(channel.lexicon.nouns) for noun in nouns}
    assert [of_word[channel.words[w]] for w in words] == named.tolist()
    assert all(channel.words[w] in text for w, text in zip(words, dataset.captions.texts, strict=True))
    np.testing.assert_array_equal(dataset.labels, dataset.classes)


def test_the_table_is_counted_on_the_training_split_alone(mine):
    config, named, _ = mine
    for changes in ({}, {"train_size": 100}, {"test_from": "train", "test_size": 80}):
        dataset = load.load_dataset(dataclasses.replace(config, **changes))
        assert dataset.captions is not None
        assert dataset.captions.channel is not None
        train = dataset.splits["train"]
        counts = np.full((4, 4), 0.5)
        for i in train:
            counts[dataset.classes[i], named[i]] += 1
        np.testing.assert_allclose(
            dataset.captions.channel.naming_probabilities, counts / counts.sum(1, keepdims=True), rtol=1e-12
        )
        rates = [
            f"{100 * np.mean([named[i] != dataset.classes[i] for i in dataset.splits[split]]):.1f} %"
            for split in ("train", "test")
        ]
        assert (
            f"People name another class in {rates[0]} of the training examples and {rates[1]} of the test examples."
            in (dataset.notes)
        )
        assert any("the Bayes reference is no bound" in note for note in dataset.notes)


def test_an_example_outside_the_splits_has_no_caption(mine):
    config, *_ = mine
    dataset = load.load_dataset(dataclasses.replace(config, test_from="train", test_size=80))
    used = np.zeros(COUNT, bool)
    used[np.concatenate([*dataset.splits.values()])] = True
    assert dataset.captions is not None
    assert dataset.captions.words is not None
    assert [text != "" for text in dataset.captions.texts] == used.tolist()
    np.testing.assert_array_equal(dataset.captions.words >= 0, used)
    assert not dataset.modalities["text"].values[~used][:, 1:].any()


def test_labels_are_compared_before_anything_is_counted(mine, tmp_path):
    config, _, people = mine
    table = pd.read_csv(people)
    other = write(table.assign(id=np.roll(table["id"], 1)), tmp_path / "other.csv")
    with pytest.raises(UserError, match="not that of the source"):
        load.load_dataset(dataclasses.replace(config, captions=f"human:{other}"))


def test_words_beside_a_speaker_are_those_of_its_preset():
    assert parse_spec("human:a.csv") == dataclasses.replace(
        parse_spec("default"), name="human:a.csv", wrong=0.0, speaker="a.csv"
    )
    assert parse_spec("noisy:speaker=a.csv").wrong == 0
