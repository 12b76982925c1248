"""Uncertainty and weights of dynamic fusion, against loops over pairs of examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.config import Choice
from fusion_bench.data.batches import gather, to_device
from fusion_bench.data.corruptions import CORRUPTIONS, corrupt
from fusion_bench.diagnostics.base import diagnostics
from fusion_bench.diagnostics.model import Decisions, Model, Stored
from fusion_bench.diagnostics.robustness.uncertainty import Uncertainty, _values
from fusion_bench.errors import UserError
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import StrategySpec
from tests.diagnostics.robustness.models import make_captioned
from tests.tasks import CONFIG, build, call, make_task

DATASET = make_captioned()
TEST = DATASET.splits["test"]
DATA = to_device(DATASET)
DYNAMIC = ("qmf", "tmc", "pdf", "dynmm")


def make_model(name, seed=0) -> Model:
    spec = StrategySpec(name)
    module = build(lambda: spec.build(Blueprint(DATASET.task, CONFIG, jax.random.key(0))), seed=seed)
    return Model(module, DATASET, DATA)


def auroc(positive, score):
    """The probability that a positive example has the higher score; ties count half."""
    pairs = [(p > n) + 0.5 * (p == n) for p in score[positive] for n in score[~positive]]
    return np.mean(pairs)


@pytest.mark.parametrize("name", [*DYNAMIC, "concat", "early-token"])
def test_values_of_clean_images_are_those_of_loops(name):
    model, count = make_model(name), 30
    found = Uncertainty(examples=count)(model, TEST)
    chosen = TEST[np.linspace(0, len(TEST) - 1, count).astype(int)]
    inputs, labels = gather(DATA, jnp.asarray(chosen))
    outputs = call(model.module, inputs)
    wrong = np.asarray(outputs.logits.argmax(1) != labels)
    confidence = np.asarray(jax.nn.softmax(outputs.logits).max(1))
    assert found["confidence_auroc_clean"] == pytest.approx(auroc(wrong, -confidence), abs=0.01)
    uncertainty = np.asarray(model.module.uncertainty(outputs))
    assert found["error_auroc_clean"] == pytest.approx(auroc(wrong, uncertainty), abs=0.01)
    weights = {n: np.asarray(w) for n, w in model.module.modality_weights(outputs).items()}
    assert ("weight_image_clean" in found) == (name in DYNAMIC) == bool(weights)
    for modality, each in weights.items():
        share = np.maximum(each, 0) / sum(np.maximum(w, 0) for w in weights.values())
        assert found[f"weight_{modality}_clean"] == pytest.approx(share.mean(), rel=1e-4)
        alone = model.module.unimodal_logits(outputs)[modality].argmax(1)
        right = np.asarray(alone == labels)
        assert found[f"right_auroc_{modality}_clean"] == pytest.approx(auroc(right, share), abs=0.01)


def test_values_of_corrupted_images_are_means_over_the_corruptions():
    model, count = make_model("tmc"), 20
    found = Uncertainty(examples=count, severity=3)(model, TEST)
    chosen = TEST[np.linspace(0, len(TEST) - 1, count).astype(int)]
    images, means = DATASET.modalities["image"].values[chosen], []
    for name in CORRUPTIONS:
        parts = model.encode(chosen)
        parts = {**parts, "image": model.encode_values("image", corrupt(images, name, 3, examples=chosen))}
        weights = model.decisions(parts).weights
        means.append(np.mean(weights["image"] / (weights["image"] + weights["text"])))
    assert found["weight_image_corrupted"] == pytest.approx(np.mean(means), rel=1e-5)
    assert found["weight_shift_image"] == pytest.approx(np.mean(means) - found["weight_image_clean"], abs=1e-6)
    assert found["weight_image_clean"] + found["weight_text_clean"] == pytest.approx(1, rel=1e-5)


def test_where_all_decisions_are_right_nothing_is_detected(monkeypatch):
    model = make_model("concat")
    monkeypatch.setattr(model, "labels", lambda indices: model.logits(model.encode(indices)).argmax(1))
    assert "error_auroc_clean" not in Uncertainty(examples=20)(model, TEST)


def test_a_severity_that_is_none_is_refused():
    with pytest.raises(UserError, match="it must be 1 to 5"):
        diagnostics.make(Choice("uncertainty", {"severity": 6}))


def test_decisions_are_those_of_the_model():
    model = make_model("early-token")
    parts = model.encode(TEST[:5])
    assert isinstance(parts["image"], Stored)
    decided = model.decisions(parts)
    np.testing.assert_allclose(decided.logits, model.logits(parts), atol=1e-6)
    assert decided.weights == decided.unimodal_logits == {}


def test_it_is_not_for_a_single_modality():
    assert Uncertainty().skip(StrategySpec("image-only"), DATASET.task) is not None
    assert Uncertainty().skip(StrategySpec("tmc"), DATASET.task) is None
    assert Uncertainty().skip(StrategySpec("tmc"), make_task("text", "sensor")) == "there are no images of 8 bits"


def test_a_weight_below_zero_counts_as_zero():
    weights = {"image": np.array([-1.0, 3, 0]), "text": np.array([2.0, 1, -1])}
    logits = np.array([[2.0, 0], [0, 2], [2, 0]])
    decided = Decisions(logits, np.zeros(3), weights, dict.fromkeys(weights, logits))
    found = _values(decided, np.array([0, 1, 1]), "clean")
    assert found["weight_image_clean"] == pytest.approx((0 + 3 / 4 + 0) / 3)
    assert found["weight_text_clean"] == pytest.approx((1 + 1 / 4 + 0) / 3)
