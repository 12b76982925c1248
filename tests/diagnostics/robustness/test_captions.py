"""Dropped words and captions of other channels, against a loop over examples."""

import dataclasses
import re

import numpy as np
import pytest

from fusion_bench.data.captions.channel import make_channel, sample
from fusion_bench.data.captions.partial import text_ceiling_without_words
from fusion_bench.data.captions.spec import PRESETS
from fusion_bench.data.dataset import Captions
from fusion_bench.diagnostics.base import Inapplicable
from fusion_bench.diagnostics.model import RunKey
from fusion_bench.diagnostics.robustness.captions import DROPPED, ChannelShift, DroppedWords
from fusion_bench.fusion.registry import StrategySpec
from fusion_bench.metrics.classification import accuracy
from tests.diagnostics.robustness.models import CLASS_NAMES, LENGTH, expected_logits, ids_of, make_captioned, make_model
from tests.tasks import make_task

DATASET = make_captioned("default")
TEST = DATASET.splits["test"]
IMAGES = DATASET.modalities["image"].values


def of_file(dataset):
    """Returns a dataset whose captions came from a file."""
    captions = dataset.captions
    return dataclasses.replace(dataset, captions=Captions(captions.texts, captions.modality, captions.about))


def beliefs_of(dataset):
    """Returns an image model's stored logits, and its probabilities of the class.

    On validation data it is right as often as it believes, 55 %, so that its temperature is 1.
    """
    p = np.random.default_rng(1).dirichlet(np.ones(4), len(dataset.classes))
    test, held_out = dataset.splits["test"], dataset.classes[dataset.splits["validation"]]
    said = np.where(np.arange(len(held_out)) < 0.55 * len(held_out), held_out, (held_out + 1) % 4)
    assert (said == held_out).mean() == 0.55
    stored = {"validation_logits": np.log(np.eye(4)[said] * 0.4 + 0.15), "test_logits": np.log(p[test])}
    return stored, p


@pytest.fixture(scope="module")
def model():
    return make_model(DATASET)


@pytest.fixture(scope="module")
def dropped(model):
    return DroppedWords()(model, TEST)


@pytest.fixture(scope="module")
def shifted(model):
    return ChannelShift()(model, TEST)


def test_each_fraction_has_the_accuracy_of_a_loop(model, dropped):
    kept_at, labels = {}, DATASET.labels[TEST]
    for fraction in (0.0, *DROPPED):
        (tokens,) = [v for key, v in model.cache.items() if key[:2] == ("dropped-words", fraction)]
        expected = expected_logits(model, IMAGES[TEST], ids_of(tokens))
        assert dropped[f"accuracy_words_dropped_{fraction}"] == pytest.approx((expected.argmax(1) == labels).mean())
        kept_at[fraction] = (tokens != 0).sum()
        if fraction == 0:
            np.testing.assert_array_equal(tokens, DATASET.modalities["text"].values[TEST])
    assert [*kept_at.values()] == sorted(kept_at.values(), reverse=True)
    words = sum(len(re.findall(r"\w+", DATASET.captions.texts[i])) for i in TEST)
    punctuation = kept_at[0.0] - words
    assert kept_at[1.0] == punctuation
    assert (kept_at[0.5] - punctuation) / words == pytest.approx(0.5, abs=0.1)
    mean = np.mean([dropped[f"accuracy_words_dropped_{fraction}"] for fraction in DROPPED])
    assert dropped["accuracy_words_dropped"] == pytest.approx(mean)
    assert {name for name in dropped if name.startswith("bayes")} == set()  # no image model is stored


def test_ceilings_stand_beside_the_accuracies_of_captions_of_a_channel(dropped):
    for fraction in (0.0, *DROPPED):
        ceiling = text_ceiling_without_words(DATASET.captions.channel, fraction)
        assert dropped[f"ceiling_words_dropped_{fraction}"] == ceiling
    assert dropped["ceiling_words_dropped_1.0"] == pytest.approx(0.25)
    found = DroppedWords()(make_model(of_file(DATASET)), TEST)
    assert found == {name: value for name, value in dropped.items() if not name.startswith("ceiling")}


@pytest.mark.parametrize("channel", ["default", "mixed"])
def test_ideal_readers_have_the_image_model_of_the_class(channel):
    dataset = make_captioned(channel)
    stored, p = beliefs_of(dataset)
    wanted = RunKey("alone", "image-only", 0, "class" if channel == "mixed" else "label")
    test, chosen = dataset.splits["test"], dataset.captions.channel
    captions = dataset.captions

    model = make_model(dataset, companions={wanted: lambda: make_model(dataset, stored=stored)})
    found = DroppedWords()(model, test) | ChannelShift()(model, test)
    scores = chosen.bayes_scores(p[test], captions.words[test], captions.shifts[test])
    own = accuracy(scores, dataset.labels[test])
    for name in ("bayes_words_dropped_0.0", f"bayes_on_{channel}", f"mismatched_bayes_on_{channel}"):
        assert found[name] == pytest.approx(own)
    assert found["bayes_on_clean"] == 1.0
    alone = accuracy(p[test], dataset.classes[test])
    assert found["bayes_on_neutral"] == pytest.approx(alone)
    if channel == "default":
        assert found["mismatched_bayes_on_neutral"] == pytest.approx(alone)
        assert found["bayes_words_dropped_1.0"] == pytest.approx(alone)


def test_captions_of_another_channel_are_read_with_the_runs_own_words(model, shifted):
    tokenizer = DATASET.tokenizers["text"]
    for name in PRESETS:
        drawn = sample(make_channel(name, CLASS_NAMES), DATASET.classes, 5)
        encodings = [tokenizer.encode(drawn.texts[i]).ids[:LENGTH] for i in TEST]
        expected = expected_logits(model, IMAGES[TEST], encodings)
        assert shifted[f"accuracy_on_{name}"] == pytest.approx((expected.argmax(1) == drawn.targets[TEST]).mean())
        assert shifted[f"unknown_on_{name}"] == pytest.approx(np.mean([1 in ids for ids in encodings]))
    assert shifted["unknown_on_synergy"] == 1.0  # no caption in training has a shift word
    own = accuracy(model.stored["test_logits"], model.stored["test_labels"])
    assert shifted["accuracy_on_default"] == pytest.approx(own)


def test_the_draws_depend_on_the_seed_of_the_dataset(shifted):
    other = ChannelShift()(make_model(make_captioned("default", seed=6)), TEST)
    assert {other[f"accuracy_on_{name}"] == shifted[f"accuracy_on_{name}"] for name in PRESETS} != {True}


def test_what_has_no_captions_is_left_out_with_a_reason():
    for diagnostic in (DroppedWords(), ChannelShift()):
        assert diagnostic.skip(StrategySpec("image-only"), DATASET.task) == "image-only reads image alone"
        assert diagnostic.skip(StrategySpec("text-only"), DATASET.task) is None
        assert diagnostic.skip(StrategySpec("concat"), make_task("audio", "image")) == "there is no text"
        bare = make_model(dataclasses.replace(DATASET, captions=None))
        with pytest.raises(Inapplicable, match="the data have no captions"):
            diagnostic(bare, TEST)
    with pytest.raises(Inapplicable, match="captions from a file have no channel"):
        ChannelShift()(make_model(of_file(DATASET)), TEST)
