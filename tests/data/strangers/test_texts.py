"""Texts as people bring them: any language and length, several an example or several modalities."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import DataConfig
from fusion_bench.data import load
from fusion_bench.data.batches import draw_texts, gather, to_device
from fusion_bench.data.captions.channel import make_channel, sample
from fusion_bench.data.captions.spec import PRESETS
from fusion_bench.data.captions.texts import tokenize
from fusion_bench.data.captions.tokenizer import UNKNOWN, choose_kind, encode, train_tokenizer
from fusion_bench.data.dataset import PAD, Dataset, Modality, RawDataset
from fusion_bench.errors import ConfigError, UserError
from fusion_bench.fusion.base import Outputs
from fusion_bench.store import Run
from fusion_bench.store.loaded import LoadedRun
from tests.data.strangers.texts import LANGUAGES, Language

SPLITS = {"train": np.arange(60), "validation": np.arange(60, 70), "test": np.arange(70, 80)}


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_the_kind_is_the_one_that_a_language_needs(language: Language):
    assert choose_kind(language.sentences(200)[0]) == language.kind


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_tokens_tell_the_noun_of_sentences_that_were_not_seen(language: Language):
    """Each has a token that is in several training sentences, all of them with its noun."""
    texts, nouns = language.sentences(600)
    tokenizer = train_tokenizer(texts[:400], choose_kind(texts[:400]))
    ids = encode(tokenizer, texts)
    has = np.zeros((600, tokenizer.get_vocab_size()), int)
    np.put_along_axis(has, ids, 1, 1)
    with_noun = np.stack([has[:400][nouns[:400] == noun].sum(0) for noun in range(len(language.nouns))])
    tells = (with_noun >= 5) & (with_noun == with_noun.sum(0))
    assert (has[400:] * tells[nouns[400:]]).any(1).all()
    assert np.mean(ids[400:] == UNKNOWN) == 0


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["".join(np.random.default_rng(i).choice([*"ACGT"], 30)) for i in range(50)], "bpe"),  # one new word each
        ([f"sample number{i} value{i}" for i in range(50)], "word"),  # two words in three
        ([f"{i} value{i} number{i} of" for i in range(50)], "bpe"),
        (["the cat sleeps on my lap, 猫"] * 50, "word"),
        (["this is a photo: 这是一张照片"] * 50, "bpe"),
        ([""], "word"),
        ([], "word"),
    ],
)
def test_the_kind_follows_from_letters_and_from_how_often_words_occur(texts, kind):
    assert choose_kind(texts) == kind


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("count", [8, 40, 400])
def test_english_captions_are_read_in_words(preset, count):
    channel = make_channel(preset, [f"class {label}" for label in range(4)])
    texts = sample(channel, np.arange(count) % 4, 0).texts
    dataset_text = tokenize("text", [(text,) for text in texts], {"train": np.arange(count)}, DataConfig())
    assert choose_kind(texts) == "word"
    assert dataset_text.tokenizer.to_str() == train_tokenizer(texts).to_str()
    np.testing.assert_array_equal(dataset_text.modality.values, encode(train_tokenizer(texts), texts))
    assert dataset_text.notes == ()


def test_a_character_has_its_marks_and_one_form():
    tokenizer = train_tokenizer(["ที่ 猫が", "e\u0301Ａ"], "characters")  # a Thai vowel and tone; e + accent, wide A
    assert [*map(tokenizer.id_to_token, encode(tokenizer, ["ที่ 猫éa"])[0])] == ["ที่", "猫", "é", "a"]


@pytest.mark.parametrize("kind", ["word", "bpe", "characters"])
def test_tokenizers_are_the_same_whatever_the_order_and_know_no_padding(kind):
    texts = [" ".join(sentence) for sentence in itertools.permutations(["[PAD]", "cat", "catalogue", "[UNK]"])] * 10
    tokenizer = train_tokenizer(texts, kind)
    assert tokenizer.to_str() == train_tokenizer(texts[::-1], kind).to_str()
    assert tokenizer.id_to_token(PAD) == "[PAD]"
    assert tokenizer.id_to_token(UNKNOWN) == "[UNK]"
    assert not {PAD, UNKNOWN} & set(encode(tokenizer, ["[PAD] [UNK]"])[0])
    assert UNKNOWN in encode(tokenizer, ["[PAD] %"])[0]


def tokens(texts, **options):
    padded = [*texts, *[("a b",)] * (80 - len(texts))]
    return tokenize("words", padded, SPLITS, DataConfig(**options))


@pytest.mark.parametrize(("options", "length"), [({}, 128), ({"max_tokens": 5}, 5), ({"max_tokens": 20_000}, 10_000)])
def test_one_long_text_does_not_pad_all(options, length):
    read = tokens([("word " * 10_000,), ("a b c d e f",)], **options)
    assert read.modality.values.shape == (80, length)
    assert (read.modality.values[0] != PAD).all()
    cut = {128: "1 of 80", 5: "2 of 80"}.get(length)
    told = () if cut is None else (f"words: {cut} texts are cut at {length} tokens (max_tokens).",)
    assert read.notes == told


def test_the_length_is_that_of_the_longest_training_text():
    texts = [("a b c",)] * 60 + [("a b c d e f",)] * 20
    assert tokens(texts).modality.values.shape == (80, 3)


@pytest.mark.parametrize(
    ("unseen", "kind", "told"),
    [
        (8, "word", "words: 20% of the words of validation and test texts are unknown, as no training text has them; "
                    "the tokenizer bpe reads words in parts."),
        (4, "word", None),
        (8, "characters", "words: 20% of the characters of validation and test texts are unknown, as no training text "
                          "has them."),
    ],
)  # fmt: skip
def test_unknown_tokens_above_a_tenth_are_told(unseen, kind, told):
    texts = [("a b",)] * 60 + [("a z",)] * unseen + [("a b",)] * (20 - unseen)
    assert tokens(texts, tokenizer=kind).notes == (() if told is None else (told,))


def test_a_kind_that_was_chosen_is_told():
    language = LANGUAGES[1]
    read = tokens([(text,) for text in language.sentences(80)[0]])
    assert read.notes == ("words is read in characters, as it has no spaces between words.",)
    assert tokens([("a b",)], tokenizer="bpe").notes == ()


@pytest.mark.parametrize("printed", ["['a', 'b']", "('a', 'b')", "b'a cat'"])
def test_texts_as_python_prints_them_are_refused(printed):
    message = re.escape(f"the texts of words are values as Python prints them ({printed} …); a text is a string")
    with pytest.raises(UserError, match=message):
        tokens([(printed,)] * 31)
    assert tokens([(printed,)] * 30).notes == ()


def test_half_a_character_is_one_token():
    texts = ["a cat \ud83d", "a dog \ude00 \ud83d\ude00"]
    tokenizer = train_tokenizer(texts)
    assert {"\ufffd", "\U0001f600"} < set(tokenizer.get_vocab())
    np.testing.assert_array_equal(encode(tokenizer, ["\ud83d"]), encode(tokenizer, ["\ufffd"]))
    assert tokens([(text,) for text in texts]).notes == ()


SEVERAL = [("a b", "c d", "e f"), ("c d",), ("e f", "a b")]


def test_several_texts_are_drawn_in_training_and_the_first_is_read_in_evaluation():
    read = tokens(SEVERAL)
    assert read.notes == ("words has up to 3 texts an example: an epoch draws one, a test reads the first.",)
    modality, vocabulary = read.modality, read.tokenizer
    np.testing.assert_array_equal(modality.values[:3], encode(vocabulary, ["a b", "c d", "e f"]))
    labels = np.zeros(80, np.int32)
    data = to_device(Dataset("several", {"words": modality}, labels, labels, ("a", "b"), {"train": np.arange(60)}))
    indices = jnp.asarray([2, 0, 1, 0])
    inputs, _ = gather(data, indices)
    np.testing.assert_array_equal(inputs["words"].values, modality.values[np.asarray(indices)])
    draw = jax.jit(lambda key: draw_texts(inputs, data, indices, key)["words"])
    drawn = [np.asarray(draw(jax.random.key(epoch)).values) for epoch in range(60)]
    for row, example in enumerate(indices.tolist()):
        possible = {tuple(ids) for ids in encode(vocabulary, SEVERAL[example]).tolist()}
        assert {tuple(each[row].tolist()) for each in drawn} == possible
    for each in drawn:  # by the example, wherever it stands in a batch
        np.testing.assert_array_equal(each[1], each[3])
    counts = [sum((each[1] == encode(vocabulary, [text])[0]).all() for each in drawn) for text in SEVERAL[0]]
    assert min(counts) > 8  # 20 of 60, give or take 3.7


def test_one_text_each_has_no_alternatives():
    read = tokens([("a b",)])
    assert read.modality.alternatives is None
    assert read.notes == ()


RAW = RawDataset(
    name="mine",
    modalities={"sensor": Modality("vector", np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32))},
    labels=np.arange(80, dtype=np.int32) % 4,
    class_names=("a", "b", "c", "d"),
    split=np.where(np.arange(80) < 60, "train", "test"),
    texts={
        "text": tuple(f"the {('cat', 'dog', 'owl', 'fox')[i % 4]} sleeps" for i in range(80)),
        "title": tuple(f"{('猫', '狗', '鸟', '鱼')[i % 4]}在睡觉" for i in range(80)),
    },
    notes=("A note of the source.",),
    ids=tuple(f"{i}.jpg" for i in range(80)),
)


def load_raw(monkeypatch, raw=RAW, **options) -> Dataset:
    monkeypatch.setattr(load, "load_raw", lambda config: raw)
    return load.load_dataset(DataConfig(**options))


def test_every_text_modality_has_a_tokenizer_of_its_own(monkeypatch):
    dataset = load_raw(monkeypatch)
    assert list(dataset.modalities) == ["sensor", "text", "title"]
    assert dataset.captions is None
    assert dataset.tokenizers.keys() == RAW.texts.keys()
    assert set(dataset.tokenizers["text"].get_vocab()) == {
        *("[PAD]", "[UNK]", "the", "cat", "dog", "owl", "fox", "sleeps")
    }
    assert set(dataset.tokenizers["title"].get_vocab()) == {"[PAD]", "[UNK]", *"猫狗鸟鱼在睡觉"}
    for name, texts in RAW.texts.items():
        modality = dataset.modalities[name]
        assert modality.vocabulary_size == dataset.tokenizers[name].get_vocab_size()
        np.testing.assert_array_equal(modality.values, encode(dataset.tokenizers[name], texts))
    assert dataset.notes[0] == "A note of the source."
    assert "title is read in characters" in dataset.notes[1]


def test_the_tokenizer_can_be_chosen_where_there_is_a_text(monkeypatch):
    dataset = load_raw(monkeypatch, tokenizer="characters")
    assert "c" in dataset.tokenizers["text"].get_vocab()
    ids = Modality("tokens", np.ones((80, 2), np.int32), 2)
    raw = dataclasses.replace(RAW, texts={}, modalities={**RAW.modalities, "text": ids})
    with pytest.raises(ConfigError, match=r"^tokenizer is word; it does nothing, as mine has no strings to read$"):
        load_raw(monkeypatch, raw, tokenizer="word")


def test_the_fingerprint_tells_words_and_classes_apart(monkeypatch):
    """The same pattern of token ids and labels, with another meaning, is another dataset."""
    other = {
        name: tuple(text.replace("cat", "cow").replace("猫", "牛") for text in of) for name, of in RAW.texts.items()
    }
    several = load_raw(monkeypatch)
    changed = [
        several,
        load_raw(monkeypatch, dataclasses.replace(RAW, texts={**RAW.texts, "text": other["text"]})),
        load_raw(monkeypatch, dataclasses.replace(RAW, texts={**RAW.texts, "title": other["title"]})),
        load_raw(monkeypatch, dataclasses.replace(RAW, class_names=("a", "b", "c", "e"))),
        load_raw(monkeypatch, dataclasses.replace(RAW, class_names=("b", "a", "c", "d"))),
    ]
    assert len({dataset.fingerprint for dataset in changed}) == len(changed)
    assert load_raw(monkeypatch, dataclasses.replace(RAW, name="moved")).fingerprint == several.fingerprint


def test_the_fingerprint_is_of_all_captions(monkeypatch, tmp_path):
    raw, prints = dataclasses.replace(RAW, texts={}), set()
    for last in ("the cat", "the dog", "the cat the"):
        rows = [f'{{"id": "{name}", "caption": ["the dog", "the cat"]}}' for name in RAW.ids[1:]]
        (tmp_path / "c.jsonl").write_text("\n".join([f'{{"id": "0.jpg", "caption": ["the dog", "{last}"]}}', *rows]))
        dataset = load_raw(monkeypatch, raw, captions=str(tmp_path / "c.jsonl"))
        assert dataset.captions is not None
        assert set(dataset.captions.texts) == {"the dog"}
        prints.add(dataset.fingerprint)
    assert len(prints) == 3


def test_captions_of_examples_that_are_left_out_may_be_missing(monkeypatch, tmp_path):
    raw, sizes = dataclasses.replace(RAW, texts={}), {"train_size": 20, "test_size": 8}
    path = tmp_path / "c.csv"
    path.write_text("id,caption\n" + "".join(f"{i},a text\n" for i in range(80)))
    whole = load_raw(monkeypatch, raw, captions=str(path), **sizes)
    used = np.concatenate([*whole.splits.values()])
    path.write_text("id,caption\n" + "".join(f"{i},a text\n" for i in used))
    assert load_raw(monkeypatch, raw, captions=str(path), **sizes).fingerprint == whole.fingerprint
    with pytest.raises(
        UserError, match=r"80 ids missing .*; ids are names such as 0\.jpg, and each example of the splits needs a row$"
    ):
        load_raw(monkeypatch, raw, captions=str(path))


class FirstTokens(nnx.Module):
    """Gives the first token of each text for logits."""

    def __call__(self, inputs):
        return Outputs(jnp.stack([batch.values[:, 0] for batch in inputs.values()], 1).astype(jnp.float32))


def test_a_loaded_run_reads_each_text_with_its_own_tokenizer(monkeypatch):
    dataset = load_raw(monkeypatch)
    specs = {name: dataset.task.modalities[name] for name in RAW.texts}
    stats = {name: (np.zeros(0, np.float32), np.ones(0, np.float32)) for name in specs}
    run = Run("id", "complete", "first", "early", 0, {}, {}, {}, {}, {})
    loaded = LoadedRun(run, FirstTokens(), dataset.tokenizers, specs, ("text", "title"), stats)
    logits = loaded.predict({"text": ["fox sleeps", "the"], "title": ["鱼", "猫在"]})
    words = [[dataset.tokenizers[name].id_to_token(int(row[i])) for i, name in enumerate(specs)] for row in logits]
    assert words == [["fox", "鱼"], ["the", "猫"]]
    without = dataclasses.replace(loaded, tokenizers={"text": dataset.tokenizers["text"]})
    with pytest.raises(UserError, match=r"^title is text, and the run has no tokenizer of it; give token ids$"):
        without.predict({"text": ["fox"], "title": ["鱼"]})
