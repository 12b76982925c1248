"""Bits of ideal models and of known confusions, and the table of a model's predictions against a loop."""

import dataclasses
import re
import types

import numpy as np
import pytest

from fusion_bench.data.captions.channel import make_channel, write
from fusion_bench.data.captions.lexicon import NEUTRAL
from fusion_bench.data.captions.tokenizer import encode
from fusion_bench.data.dataset import Captions
from fusion_bench.diagnostics.base import Inapplicable
from fusion_bench.diagnostics.model import Model, RunKey
from fusion_bench.diagnostics.pid import Pid, confusion, given_class, of_image_model, types_of, weights
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics import information
from fusion_bench.metrics.information import decompose, mutual_information
from tests.diagnostics.robustness.models import LENGTH, expected_logits, ids_of, make_captioned, make_model
from tests.tasks import make_task

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PARTS = ("redundant", "unique_image", "unique_text", "synergistic")
CLASSES = np.arange(400) % 10


def bits(found, of):
    return [found[f"bits_{of}_{part}"] for part in PARTS]


class Ideal(Model):
    """Predicts rule(class, type) of an image's class and a caption's type."""

    is_separable = True  # type: ignore[assignment]

    def __init__(self, channel_name, rule, classes=CLASSES, modalities=("image", "text"), companions=None):
        channel = make_channel(channel_name, TEN)
        captions = Captions(("",) * len(classes), "text", "image", channel, classes, classes, 0)
        tokenizer = types.SimpleNamespace(
            encode_batch_fast=lambda texts, **_: [types.SimpleNamespace(ids=[1]) for _ in texts]
        )
        self.dataset = types.SimpleNamespace(
            classes=classes, captions=captions, tokenizers={"text": tokenizer},
            modalities={"text": types.SimpleNamespace(spec=types.SimpleNamespace(shape=(4,)))},
        )  # fmt: skip
        self.modalities, self.rule, self.cache = modalities, rule, {}
        self.run, self.companions = RunKey("own", "concat", 0), companions or {}

    def encode_one(self, modality, indices):
        return self.dataset.classes[indices]

    def encode_values(self, modality, values, mask=None):
        kinds = len(types_of(self.dataset.captions.channel)[1])
        return np.repeat(np.arange(kinds), len(values) // kinds)

    def grid(self, parts):
        image = parts.get("image", np.zeros(1, int))[:, None]
        text = parts.get("text", np.zeros(1, int))[None]
        grid = np.eye(10)[np.broadcast_to(self.rule(image, text), (image.size, text.size))]
        return grid if len(parts) == 2 else grid.reshape(-1, 10)


def right(channel_name):
    """Returns the rule of a model that is always right."""
    shifts = types_of(make_channel(channel_name, TEN))[1]
    return lambda y, kind: (y + shifts[kind]) % 10


@pytest.mark.parametrize("channel", ["default", "coarse", "synergy", "synergy:shift=0.5", "mixed", "neutral"])
def test_a_model_that_is_always_right_uses_all_that_there_is(channel):
    found = Pid()(Ideal(channel, right(channel)), np.arange(400))
    np.testing.assert_allclose(bits(found, "used"), bits(found, "data"), atol=2e-3)
    assert sum(bits(found, "data")) == pytest.approx(np.log2(10), abs=1e-9)


def test_bits_in_the_data_have_their_closed_forms():
    """Without a shift all that the caption tells is redundant; with s = 1 all is synergy; else H(k) is."""
    found = Pid()(Ideal("default", right("default")), np.arange(400))
    told = make_channel("default", TEN).bits
    np.testing.assert_allclose(bits(found, "data"), [told, np.log2(10) - told, 0, 0], atol=1e-4)
    found = Pid()(Ideal("synergy:shift=0.5", right("synergy:shift=0.5")), np.arange(400))
    of_shift = -(0.55 * np.log2(0.55) + 9 * 0.05 * np.log2(0.05))
    np.testing.assert_allclose(bits(found, "data"), [0, np.log2(10) - of_shift, 0, of_shift], atol=1e-4)


def test_a_model_uses_only_what_it_reads():
    words, channel = types_of(make_channel("clean", TEN))[0], make_channel("clean", TEN)
    named = np.array([channel.word_probabilities[:, of_type[0]].argmax() for of_type in words])
    text_alone = Pid()(Ideal("half", lambda y, kind: 3 + 0 * (y + kind)), np.arange(400))
    np.testing.assert_allclose(bits(text_alone, "used"), 0, atol=1e-9)  # it reads nothing
    text_alone = Pid()(Ideal("clean", lambda y, kind: named[kind], modalities=("text",)), np.arange(400))
    np.testing.assert_allclose(bits(text_alone, "used"), [np.log2(10), 0, 0, 0], atol=1e-3)  # the image tells it too
    image_alone = Pid()(Ideal("neutral", lambda y, kind: y, modalities=("image",)), np.arange(400))
    np.testing.assert_allclose(bits(image_alone, "used"), [0, np.log2(10), 0, 0], atol=1e-3)


def test_examples_have_the_weights_of_the_prior():
    """Images of two classes, one of them three times as often as the other."""
    classes = np.array([0, 0, 0, 1] * 50)
    channel = make_channel("neutral", ("cat", "dog"))
    found = weights(channel, classes)
    assert found.sum() == pytest.approx(1)
    assert found[classes == 0].sum() == pytest.approx(0.5)
    uneven = np.repeat(np.arange(10), np.arange(1, 11) * 5)
    used = Pid(images=len(uneven))(Ideal("default", right("default"), uneven), np.arange(len(uneven)))
    np.testing.assert_allclose(bits(used, "used"), bits(used, "data"), atol=2e-3)


def test_an_image_model_leaves_less():
    """Of an image model that is right in 75 %, and else at any other class, I = log2 10 - H(0.75) - 0.25 log2 9."""
    confused = np.full((10, 10), 0.25 / 9)
    np.fill_diagonal(confused, 0.75)
    left = np.log2(10) + 0.75 * np.log2(0.75) + 0.25 * np.log2(0.25 / 9)
    known = {"neutral": (0, left, 0, 0), "synergy": (0, 0, 0, left), "clean": (left, 0, np.log2(10) - left, 0)}
    for name, expected in known.items():
        found = decompose(of_image_model(make_channel(name, TEN), confused))
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("channel_name", ["default", "mixed"])
def test_the_table_of_an_image_model_is_that_of_a_loop(channel_name):
    channel = make_channel(channel_name, TEN, prior=np.arange(1, 11) / 55)
    confused = np.random.default_rng(0).dirichlet(np.ones(10), 10)
    words, shifts = types_of(channel)
    table = of_image_model(channel, confused)
    expected = np.zeros_like(table)
    for y in range(10):
        for kind, (of_type, k) in enumerate(zip(words, shifts, strict=True)):
            p = channel.prior[y] * channel.word_probabilities[y, of_type].sum() * channel.shift_probabilities[k]
            for predicted in range(10):
                expected[predicted, kind, (y + k) % 10] += p * confused[y, predicted]
    np.testing.assert_allclose(table, expected, atol=1e-12)
    perfect = of_image_model(channel, np.eye(10))
    assert mutual_information(perfect.sum(0)) == pytest.approx(channel.bits, abs=1e-9)  # types lose nothing


def test_confusion():
    found = confusion(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), 4)
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("channel_name", ["default", "mixed", "clean"])
def test_words_of_a_type_tell_the_same(channel_name):
    channel = make_channel(channel_name, TEN)
    posteriors = channel.word_probabilities / np.maximum(channel.word_probabilities.sum(0), 1e-30)
    for of_type in channel.word_types:
        assert np.ptp(posteriors[:, of_type], axis=1).max() < 1e-12
    together = np.stack([posteriors[:, of_type[0]] for of_type in channel.word_types])
    assert len(np.unique(together.round(9), axis=0)) == len(together)
    assert sorted(np.concatenate(channel.word_types)) == [*np.flatnonzero(channel.word_probabilities.any(0))]
    np.testing.assert_allclose(given_class(channel).sum(1), 1)
    has_neutral = any(channel.words[w] in NEUTRAL for of_type in channel.word_types for w in of_type)
    assert has_neutral == (channel_name != "clean")


@pytest.mark.parametrize("channel_name", ["default", "synergy"])
def test_a_model_has_the_table_of_a_loop(channel_name):
    dataset = make_captioned(channel_name)
    channel, test = dataset.captions.channel, dataset.splits["test"]
    some, model, captions = test[[0, (len(test) - 1) // 2, len(test) - 1]], make_model(dataset), 2
    words, shifts = types_of(channel)
    texts = []
    for of_type, shift in zip(words, shifts, strict=True):
        texts += write(channel, np.resize(of_type, captions), np.full(captions, shift), seed=dataset.captions.seed)
    tokens = ids_of(encode(dataset.tokenizers["text"], texts, LENGTH))
    prior = weights(channel, dataset.classes[some])
    table = np.zeros((3, len(words), 4))
    for i, example in enumerate(some):
        images = np.repeat(dataset.modalities["image"].values[[example]], len(tokens), axis=0)
        for number, row in enumerate(expected_logits(model, images, tokens)):
            table[i, number // captions, row.argmax()] += prior[i, number // captions] / captions
    found = Pid(costly_images=3, captions=captions)(model, test)
    np.testing.assert_allclose(bits(found, "used"), decompose(table), atol=2e-3)
    assert not any("image_model" in name for name in found)  # it is not stored


def test_the_sentence_is_no_information():
    """A model that predicts from the sentence alone, whatever the image and the type, uses no bits."""

    class Reader(Ideal):
        def encode_values(self, modality, values, mask=None):
            return values[:, 0]

        def grid(self, parts):
            return np.eye(10)[np.broadcast_to(parts["text"][None], (len(parts["image"]), len(parts["text"])))]

    def numbered(texts, **_):
        plain = [re.sub("|".join(words), "_", text) for text in texts]
        known = {text: number % 10 for number, text in enumerate(dict.fromkeys(plain))}
        return [types.SimpleNamespace(ids=[known[text]]) for text in plain]

    model = Reader("default", lambda y, kind: y)
    words = sorted(model.dataset.captions.channel.words, key=len, reverse=True)
    model.dataset.tokenizers["text"] = types.SimpleNamespace(encode_batch_fast=numbered)
    found = Pid()(model, np.arange(400))
    np.testing.assert_allclose(bits(found, "used"), 0, atol=1e-6)


@pytest.mark.parametrize("channel_name", ["default", "synergy"])
def test_the_image_model_counts_with_its_confusions(channel_name):
    """Where captions shift the label, it is the model of the class."""
    dataset = make_captioned(channel_name)
    target = "class" if channel_name == "synergy" else "label"
    key, test = RunKey("image", "image-only", 0, target), dataset.splits["test"]
    logits = np.random.default_rng(0).normal(size=(len(test), 4))
    own = RunKey("own", "concat", 0)
    alone = make_model(dataset, stored={"test_logits": logits})
    model = make_model(dataset, run=own, companions={key: lambda: alone})
    confused = confusion(dataset.classes[test], logits.argmax(1), 4)
    found = Pid(costly_images=5)(model, test)
    expected = decompose(of_image_model(dataset.captions.channel, confused))
    np.testing.assert_allclose(bits(found, "image_model"), expected, atol=2e-3)

    def unreadable():
        raise UserError("its checkpoint is damaged")

    left = Pid(costly_images=5)(make_model(dataset, run=own, companions={key: unreadable}), test)
    assert left == {name: value for name, value in found.items() if "image_model" not in name}
    others = [key, RunKey("other", "image-only", 1), RunKey("text", "text-only", 0), RunKey("sum", "sum", 0)]
    assert [run.id for run in Pid().companions(own, others)] == ["image", "text"]


def test_what_it_is_not_computed_for():
    for names in (("image", "text", "motion"), ("image", "motion")):
        assert Pid().skip(StrategySpec("concat"), make_task(*names)) == "it is defined for captions and one modality"
    assert Pid().skip(StrategySpec("image-only"), make_task("image", "text")) is None
    dataset = make_captioned("default")
    captions = dataset.captions
    of_file = dataclasses.replace(dataset, captions=Captions(captions.texts, captions.modality, captions.about))
    with pytest.raises(Inapplicable, match="no captions of a channel"):
        Pid()(make_model(of_file), dataset.splits["test"])


def test_a_decomposition_that_does_not_converge_is_a_reason(monkeypatch):
    dataset = make_captioned("default")
    assert dataset.captions.channel.decomposition  # computed before
    monkeypatch.setattr(information, "MAX_ITERATIONS", 1)
    with pytest.raises(Inapplicable, match="after 1 iterations"):
        Pid(costly_images=5)(make_model(dataset), dataset.splits["test"])
