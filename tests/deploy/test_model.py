"""A stored run as a classifier: inputs, calibration, neutral values, card."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from fusion_bench.deploy.card import as_json, describe
from fusion_bench.deploy.model import load_classifier
from fusion_bench.errors import UserError
from fusion_bench.metrics.calibration import fit_temperature
from tests.deploy.classifiers import TEMPERATURE, draw_pixels, make_classifier


@pytest.fixture(scope="module")
def run(plain):
    return plain.stored("concat")


def test_a_stored_run_predicts_as_it_did_with_calibrated_probabilities(plain, run):
    from fusion_bench.config import DataConfig
    from fusion_bench.store.loaded import load_data

    classifier = load_classifier(plain.config.out, run.id)
    stored = plain.store.predictions(run.id)
    assert classifier.temperature == fit_temperature(stored["validation_logits"], stored["validation_labels"])
    dataset = load_data(run, DataConfig(source=plain.config.data.source))
    rows = dataset.splits["test"][:5]
    assert dataset.captions is not None
    texts = [dataset.captions.texts[row] for row in rows]
    examples = [
        {"image": image, "text": text}
        for image, text in zip(dataset.modalities["image"].values[rows], texts, strict=True)
    ]
    expected = softmax(stored["test_logits"][:5].astype(np.float64) / classifier.temperature, axis=1)
    np.testing.assert_allclose(classifier.predict(examples), expected, atol=1e-5)
    np.testing.assert_allclose(classifier.predict(examples, size=8), expected, atol=1e-5)
    np.testing.assert_array_equal(classifier.stored(dataset, rows)[1], classifier.arrays(examples)[1])


@pytest.mark.parametrize("names", [("image", "text", "motion"), ("sensor", "text"), ("audio", "image")])
def test_the_function_of_arrays_is_the_loaded_runs(run, names):
    classifier = make_classifier(run, "concat", names)
    rng = np.random.default_rng(0)
    draws = {
        "image": lambda: draw_pixels(seed=int(rng.integers(99))),
        "text": lambda: "a dog",
        "motion": lambda: rng.normal(size=(3, 3)).astype(np.float32),
        "sensor": lambda: rng.normal(size=3).astype(np.float32),
        "audio": lambda: rng.normal(size=(6, 5, 1)).astype(np.float32),
    }
    examples = [{name: draws[name]() for name in names} for _ in range(3)]
    inputs: dict[str, Any] = {name: [example[name] for example in examples] for name in names}
    if "motion" in names:
        inputs["motion_length"] = np.full(3, 3)
    logits = classifier.loaded.predict(inputs)
    np.testing.assert_allclose(classifier.predict(examples), softmax(logits / TEMPERATURE, axis=1), atol=1e-5)


def test_a_missing_modality_is_refused_or_neutral(run):
    classifier = make_classifier(run, "concat")
    with pytest.raises(UserError, match="text is missing; give it, or let its neutral value"):
        classifier.predict([{"image": draw_pixels()}])
    filled = classifier.fill({"text": "a dog"})
    assert filled["text"] == "a dog"
    assert filled["image"].dtype == np.uint8
    assert (filled["image"] == 100).all()
    assert {"dog", "cat"}.isdisjoint(classifier.neutral["text"].split())
    moving = make_classifier(run, "concat", ("image", "motion"))
    with pytest.raises(UserError, match="no neutral value"):
        moving.fill({"image": draw_pixels()})


def test_a_caption_that_states_a_shift_is_never_neutral(shifted, run):
    assert "text" in make_classifier(run, "concat").neutral
    assert "text" not in make_classifier(shifted.stored("late-posthoc"), "concat").neutral


@pytest.mark.parametrize(
    ("motion", "message"), [(np.zeros((6, 3)), "has 6 steps; 1 to 5"), (np.zeros((0, 3)), "1 to 5 are right")]
)
def test_a_sequence_of_too_many_or_no_steps(run, motion, message):
    with pytest.raises(UserError, match=message):
        make_classifier(run, "concat", ("image", "motion")).arrays([{"image": draw_pixels(), "motion": motion}])


def test_the_card_says_what_a_program_needs(run):
    classifier = make_classifier(run, "concat", ("image", "text", "motion"))
    card = json.loads(as_json(describe(classifier)))
    assert [argument["name"] for argument in card["arguments"]] == ["image", "text", "motion", "motion_mask"]
    assert card["arguments"][0] == {"name": "image", "shape": ["batch", 8, 8, 3], "dtype": "uint8"}
    by_name = {entry["name"]: entry for entry in card["inputs"]}
    assert by_name["image"]["neutral"] == [100, 100, 100]
    assert by_name["text"]["neutral"] == classifier.neutral["text"]
    assert by_name["motion"]["neutral"] is None
    assert card["calibration"]["temperature"] == TEMPERATURE
    assert card["provenance"]["fingerprint"] == run.identity["fingerprint"]
    assert card["licence"] == "Apache-2.0"
    assert "/" not in card["provenance"]["captions"]
