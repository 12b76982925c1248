"""Accuracy with missing modalities, against a loop over examples."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fusion_bench.config import Choice
from fusion_bench.data.batches import to_device
from fusion_bench.data.captions.channel import sample_neutral
from fusion_bench.data.captions.lexicon import NEUTRAL
from fusion_bench.data.captions.tokenizer import encode
from fusion_bench.data.dataset import Modality
from fusion_bench.diagnostics.base import Inapplicable, diagnostics
from fusion_bench.diagnostics.missing_modality import MissingModality, _missing_sets, derangement
from fusion_bench.diagnostics.model import Model, take
from fusion_bench.errors import UserError
from fusion_bench.fusion.base import Outputs
from fusion_bench.fusion.registry import StrategySpec
from tests.diagnostics.robustness.models import LENGTH, expected_logits, ids_of, make_captioned, make_model
from tests.tasks import CLASSES, WORDS, make_dataset, make_task

DATASET = make_dataset()
TEST = DATASET.splits["test"]


class FirstWordAndColour(nnx.Module):
    """Logits: a table of the first word, and a linear map of the image's mean colour; word 0 is padding."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.table = nnx.Param(jnp.asarray(rng.normal(size=(WORDS, CLASSES))))
        self.colour = nnx.Param(jnp.asarray(rng.normal(size=(3, CLASSES))))

    def __call__(self, inputs):
        word, mask = inputs["text"].values[:, 0], inputs["text"].mask[:, 0]
        text = jnp.where(mask[:, None], self.table[...][word], 0.0)
        return Outputs(text + inputs["image"].values.mean((1, 2)) @ self.colour[...])


@pytest.fixture(scope="module")
def model():
    return Model(FirstWordAndColour(), DATASET, to_device(DATASET))


def expected_accuracy(model, image_from, text_from, examples=TEST):
    """Returns accuracy over the test set, example by example; None stands for zero."""
    images = DATASET.modalities["image"].values.astype(np.float64)
    train = images[DATASET.splits["train"]].reshape(-1, 3)
    words = DATASET.modalities["text"].values[:, 0]
    table, colour = (np.asarray(parameter[...], np.float64) for parameter in (model.module.table, model.module.colour))
    right = 0
    for row, index in enumerate(examples):
        logits = np.zeros(CLASSES)
        if image_from is not None:
            logits += ((images[image_from[row]].mean((0, 1)) - train.mean(0)) / train.std(0)) @ colour
        if text_from is not None and words[text_from[row]] > 0:
            logits += table[words[text_from[row]]]
        right += int(logits.argmax() == DATASET.labels[index])
    return right / len(examples)


def test_marginal_takes_the_missing_modality_from_other_examples(model):
    found = MissingModality(costly_permutations=3)(model, TEST)
    for missing in ("image", "text"):
        accuracies = []
        for number in range(3):
            other = TEST[derangement(len(TEST), number, missing)]
            sources = (other, TEST) if missing == "image" else (TEST, other)
            accuracies.append(expected_accuracy(model, *sources))
        assert found[f"accuracy_without_{missing}"] == pytest.approx(np.mean(accuracies), abs=1e-12)
        assert found[f"accuracy_without_{missing}_std"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-12)
    everything = expected_accuracy(model, TEST, TEST)
    empty = np.bincount(DATASET.labels[TEST]).max() / len(TEST)
    image, text = found["accuracy_without_text"], found["accuracy_without_image"]
    assert found["shapley_image"] == pytest.approx((everything - text + image - empty) / 2, abs=1e-12)
    assert found["shapley_image"] + found["shapley_text"] == pytest.approx(everything - empty, abs=1e-12)
    assert found["cooperation"] == pytest.approx(everything - image - text + empty, abs=1e-12)
    assert found["perceptual_score_text"] == pytest.approx((everything - image) / everything, abs=1e-12)
    each = ("accuracy_without_{}", *(f"accuracy_without_{{}}_{end}" for end in ("std", "other_label")))
    each += ("shapley_{}", "perceptual_score_{}")
    assert set(found) == {name.format(m) for name in each for m in ("image", "text")} | {"cooperation"}


def test_of_another_label(model):
    """Against the loop, over the examples whose replaced modality is of another label."""
    labels = DATASET.labels[TEST]
    found = MissingModality(costly_permutations=2)(model, TEST)
    for missing in ("image", "text"):
        right = total = 0.0
        for number in range(2):
            rows = derangement(len(TEST), number, missing)
            differs = labels[rows] != labels
            assert 0 < differs.sum() < len(TEST)
            some = TEST[differs]
            sources = (TEST[rows][differs], some) if missing == "image" else (some, TEST[rows][differs])
            right += len(some) * expected_accuracy(model, *sources, examples=some)
            total += len(some)
        assert found[f"accuracy_without_{missing}_other_label"] == pytest.approx(right / total)


def test_a_neutral_caption_says_nothing():
    """Every example's text becomes one with a neutral word, of all the shifts that the channel has."""
    for name in ("default", "synergy"):
        dataset = make_captioned(name)
        model, test = make_model(dataset), dataset.splits["test"]
        found = MissingModality(baseline="neutral")(model, test)
        texts = sample_neutral(dataset.captions.channel, len(test), dataset.captions.seed)
        assert texts is not None
        assert all(any(word in text.lower() for word in NEUTRAL) for text in texts)
        shifts = dataset.captions.channel.lexicon.shifts
        if name == "synergy":
            assert {k for k in range(4) for text in texts if shifts[k] in re.findall(r"\w+", text)} == {0, 1, 2, 3}
        tokens = encode(dataset.tokenizers["text"], texts, LENGTH)
        images = dataset.modalities["image"].values[test]
        right = (expected_logits(model, images, ids_of(tokens)).argmax(1) == dataset.labels[test]).mean()
        assert found["accuracy_without_text_neutral"] == pytest.approx(right)
        own = (model.logits(model.encode(test)).argmax(1) == dataset.labels[test]).mean()
        expected = {"accuracy_without_text_neutral": right, "perceptual_score_text_neutral": (own - right) / own}
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("dataset", [DATASET, make_captioned("clean")])
def test_what_has_no_neutral_caption(dataset):
    with pytest.raises(Inapplicable, match=r"no captions|no neutral word"):
        MissingModality(baseline="neutral")(make_model(dataset), dataset.splits["test"])


def test_zero_is_the_mean_image_and_a_text_without_words(model):
    found = MissingModality(baseline="zero")(model, TEST)
    expected = {"image": expected_accuracy(model, None, TEST), "text": expected_accuracy(model, TEST, None)}
    for name, value in expected.items():
        assert found[f"accuracy_without_{name}_zero"] == pytest.approx(value, abs=1e-12)
    assert all(name.endswith("_zero") for name in found)


def test_a_sequence_is_missing_with_its_mask():
    """Logits tell the number of steps, which is the label."""

    class Steps(nnx.Module):
        def __call__(self, inputs):
            values, mask = inputs["motion"]
            counts = (mask & (values[:, :, 0] != 0)).sum(1)
            return Outputs(jnp.eye(CLASSES)[counts])

    labels, rng = DATASET.labels, np.random.default_rng(0)
    values = rng.normal(size=(len(labels), CLASSES, 1)).astype(np.float32)
    motion = Modality("sequence", values, mask=np.arange(CLASSES) < np.maximum(labels, 1)[:, None])
    dataset = dataclasses.replace(DATASET, modalities={**DATASET.modalities, "motion": motion})
    model, told = Model(Steps(), dataset, to_device(dataset)), np.maximum(labels, 1)
    other, parts = derangement(len(TEST), 0, "motion"), model.encode(TEST)
    np.testing.assert_array_equal(model.logits(parts).argmax(1), told[TEST])
    np.testing.assert_array_equal(model.logits(parts, {"motion": other}).argmax(1), told[TEST][other])
    none = take(model.zero("motion"), np.zeros(len(TEST), int))
    assert not model.logits({**parts, "motion": none}).argmax(1).any()


def test_nothing_missing_is_the_usual_accuracy(model):
    logits = model.logits(model.encode(TEST))
    assert (logits.argmax(1) == model.labels(TEST)).mean() == expected_accuracy(model, TEST, TEST)


def test_three_modalities_have_six_sets():
    assert _missing_sets(("image", "audio", "text")) == [
        *(("audio",), ("image",), ("text",)),
        *(("audio", "image"), ("audio", "text"), ("image", "text")),
    ]


@pytest.mark.parametrize("count", [2, 3, 50])
def test_a_derangement_moves_every_example_and_depends_on_its_number_and_modality(count):
    one = derangement(count, 0, "text")
    assert sorted(one) == list(range(count))
    assert (one != np.arange(count)).all()
    np.testing.assert_array_equal(one, derangement(count, 0, "text"))
    if count == 50:
        assert (one != derangement(count, 1, "text")).any()
        assert (one != derangement(count, 0, "image")).any()


def test_a_unimodal_strategy_is_skipped_with_a_reason():
    task = make_task("image", "text")
    assert MissingModality().skip(StrategySpec("image-only"), task) == "image-only reads image alone"
    assert MissingModality().skip(StrategySpec("concat"), task) is None


def test_an_unknown_baseline_is_refused():
    with pytest.raises(UserError, match="it must be marginal or zero or neutral"):
        diagnostics.make(Choice("missing-modality", {"baseline": "mean"}))
