"""Corrupted images, against a loop over examples."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from fusion_bench.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from fusion_bench.data.dataset import Modality
from fusion_bench.diagnostics.base import Inapplicable
from fusion_bench.diagnostics.model import RunKey
from fusion_bench.diagnostics.robustness import corruptions
from fusion_bench.diagnostics.robustness.corruptions import Corruptions, PublishedCorruptions
from fusion_bench.fusion.registry import StrategySpec
from tests.diagnostics.robustness.models import expected_logits, ids_of, make_captioned, make_model
from tests.tasks import make_task

DATASET = make_captioned()
TEST = DATASET.splits["test"]
IMAGES = DATASET.modalities["image"].values
COUNT = 12
CHOSEN = TEST[np.linspace(0, len(TEST) - 1, COUNT).astype(int)]


@pytest.fixture(scope="module")
def model():
    return make_model(DATASET)


@pytest.fixture(scope="module")
def found(model):
    return Corruptions(examples=COUNT)(model, TEST)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def test_every_value_is_that_of_a_loop(model, found):
    texts = ids_of(DATASET.modalities["text"].values[CHOSEN])
    labels, held_out = DATASET.labels[CHOSEN], DATASET.splits["validation"]
    clean = expected_logits(model, IMAGES[held_out], ids_of(DATASET.modalities["text"].values[held_out]))

    def loss(log_temperature):
        p = softmax(clean / np.exp(log_temperature))
        return -np.log(p[np.arange(len(p)), DATASET.labels[held_out]]).mean()

    fit: Any = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    temperature = np.exp(fit.x)
    accuracies, nlls, briers = [], [], []
    for name in CORRUPTIONS:
        of_name = []
        for severity in SEVERITIES:
            images = corrupt(IMAGES[CHOSEN], name, severity, examples=CHOSEN)
            logits = expected_logits(model, images, texts)
            p = softmax(logits / temperature)
            of_name.append((logits.argmax(1) == labels).mean())
            assert found[f"accuracy_{name}_{severity}"] == pytest.approx(of_name[-1], abs=1e-12)
            nlls.append(-np.log(p[np.arange(COUNT), labels]).mean())
            briers.append(((p - np.eye(4)[labels]) ** 2).sum(1).mean())
        assert found[f"accuracy_{name}"] == pytest.approx(np.mean(of_name), abs=1e-12)
        assert found[f"nll_{name}"] == pytest.approx(np.mean(nlls[-5:]), rel=1e-3)
        assert found[f"brier_{name}"] == pytest.approx(np.mean(briers[-5:]), rel=1e-3)
        accuracies += of_name
    assert found["accuracy_corrupted"] == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert found["nll_corrupted"] == pytest.approx(np.mean(nlls), rel=1e-3)
    whole = expected_logits(model, IMAGES[CHOSEN], texts)
    assert found["accuracy_clean"] == pytest.approx((whole.argmax(1) == labels).mean(), abs=1e-12)
    of_each = {f"{metric}_{name}" for metric in ("accuracy", "ece", "nll", "brier") for name in CORRUPTIONS}
    severities = {f"accuracy_{name}_{severity}" for name in CORRUPTIONS for severity in SEVERITIES}
    ends = {f"{metric}_{end}" for metric in ("accuracy", "ece", "nll", "brier") for end in ("clean", "corrupted")}
    assert set(found) == of_each | severities | ends


def test_the_text_is_encoded_once_and_the_images_are_corrupted_once_for_all_models(monkeypatch):
    cache, calls = {}, []
    monkeypatch.setattr(corruptions, "corrupt", lambda *a, **k: calls.append(a[1:]) or corrupt(*a, **k))
    first, second = (make_model(DATASET, cache=cache) for _ in range(2))
    values = [Corruptions(examples=3)(model, TEST) for model in (first, second)]
    assert first.counts == {"text": 1, "image": 41}
    assert len(calls) == 40
    assert values[0] == values[1]
    monkeypatch.setattr(corruptions, "CACHED_BYTES", 0)
    other = make_model(DATASET)
    assert Corruptions(examples=3)(other, TEST) == values[0]
    assert not other.cache


def test_a_part_of_the_examples_is_corrupted_as_in_the_whole(model):
    names = ("gaussian_noise",)
    seen = []

    def images(name, severity):
        seen.append(corrupt(IMAGES[TEST], name, severity, examples=TEST))
        return seen[-1]

    rows = np.arange(len(TEST))
    whole = Corruptions().measure(model, "image", TEST, rows, names, images)
    logits = expected_logits(model, seen[2], ids_of(DATASET.modalities["text"].values[TEST]))
    right = logits.argmax(1) == DATASET.labels[TEST]
    assert whole["accuracy_gaussian_noise_3"] == pytest.approx(right.mean())
    part = Corruptions(examples=COUNT)(model, TEST)
    rows = np.linspace(0, len(TEST) - 1, COUNT).astype(int)
    assert part["accuracy_gaussian_noise_3"] == pytest.approx(right[rows].mean())


def test_retention_against_text_only_is_that_of_clean_accuracies():
    said = np.where(np.arange(len(TEST)) % 3 == 0, DATASET.labels[TEST], 0)
    stored = {"test_logits": np.eye(4)[said], "test_labels": DATASET.labels[TEST]}
    alone = make_model(DATASET, stored=stored)
    model = make_model(DATASET, companions={RunKey("alone", "text-only", 0): lambda: alone})
    found = Corruptions(examples=COUNT)(model, TEST)
    rows = np.linspace(0, len(TEST) - 1, COUNT).astype(int)
    of_text = (stored["test_logits"][rows].argmax(1) == DATASET.labels[CHOSEN]).mean()
    assert of_text > 0
    assert found["retention_corrupted_text"] == pytest.approx(found["accuracy_corrupted"] / of_text)
    assert "retention_corrupted_image" not in found  # follows from the values of image-only


def test_what_cannot_be_corrupted_is_left_out_with_a_reason():
    assert Corruptions().skip(StrategySpec("text-only"), DATASET.task) == "text-only reads text alone"
    assert Corruptions().skip(StrategySpec("concat"), DATASET.task) is None
    assert Corruptions().skip(StrategySpec("concat"), make_task("image", "text")) == "there are no images of 8 bits"
    rgba = Modality("grid", np.zeros((*IMAGES.shape[:3], 4), np.uint8))
    dataset = dataclasses.replace(DATASET, modalities={**DATASET.modalities, "image": rgba})
    model = make_model(DATASET)
    model.dataset = dataset
    with pytest.raises(Inapplicable, match="image has 4 channels; corruptions are defined for 1 and 3"):
        Corruptions()(model, TEST)
    two = {**DATASET.modalities, "other": DATASET.modalities["image"]}
    model.dataset = dataclasses.replace(DATASET, modalities=two, captions=None)
    with pytest.raises(Inapplicable, match="there are several images, image, other, and captions are about none"):
        Corruptions()(model, TEST)
    with pytest.raises(Inapplicable, match="it needs the directory of CIFAR-10-C, --cifar10-c DIR"):
        PublishedCorruptions()(model, TEST)


def test_the_mean_over_published_files_is_over_the_fifteen(tmp_path, model):
    labels = DATASET.classes.copy()
    last = np.sort(TEST)
    dataset = dataclasses.replace(DATASET, splits={**DATASET.splits, "test": last})
    files = np.repeat(IMAGES[None], 5, 0).reshape(-1, *IMAGES.shape[1:])
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    np.save(tmp_path / "fog.npy", files)
    np.save(tmp_path / "spatter.npy", 255 - files)
    model = make_model(dataset, files={"cifar10-c": tmp_path})
    found = PublishedCorruptions(examples=COUNT)(model, last)
    assert found["accuracy_cifar10_c_fog_4"] == found["accuracy_cifar10_c_clean"]
    assert found["accuracy_cifar10_c"] == pytest.approx(found["accuracy_cifar10_c_fog"])
    assert found["accuracy_cifar10_c_spatter"] != pytest.approx(found["accuracy_cifar10_c"])
    assert found["ece_cifar10_c"] == pytest.approx(found["ece_cifar10_c_clean"])
