"""The projection against its worked example and its definition, and on functions that are a sum and that are none."""

import dataclasses
import itertools
import types
from typing import Any, cast

import jax
import numpy as np
import pytest

from fusion_bench.data.batches import to_device
from fusion_bench.diagnostics import emap
from fusion_bench.diagnostics import model as models
from fusion_bench.diagnostics.emap import Emap, additive
from fusion_bench.diagnostics.model import Model
from fusion_bench.fusion.registry import StrategySpec
from tests.diagnostics.test_features import with_motion
from tests.tasks import make_dataset, make_strategy, make_task

TWO, THREE = ("image", "text"), ("image", "motion", "text")
IMAGES = make_dataset()
MODALITIES = {**IMAGES.modalities, **with_motion(IMAGES).modalities}
DATASETS = {TWO: IMAGES, THREE: dataclasses.replace(IMAGES, modalities=MODALITIES)}


class Combined(Model):
    """Has the logits `logits[i, j]` of example i's image and example j's text."""

    is_separable = True  # type: ignore[assignment]

    def __init__(self, logits, labels):
        self.modalities, self.dataset = ("image", "text"), types.SimpleNamespace(num_classes=logits.shape[-1])
        self.logits_of, self.right = logits, labels

    def labels(self, indices):
        return self.right[indices]

    def encode(self, indices):
        return {"image": indices, "text": indices}

    def grid(self, parts):
        return self.logits_of[np.ix_(parts["image"], parts["text"])].astype(np.float32)


def test_the_worked_example():
    """Of the paper's appendix G, with one logit beside a constant: f̂ is -0.8, 2.1 and 0.5."""
    logits = np.array([[-1.3, 0.3, -0.2], [0.8, 3.0, 1.1], [1.1, -0.1, 0.7]])
    np.testing.assert_allclose(additive(logits[:, :, None])[:, 0], [-0.8, 2.1, 0.5], atol=1e-12)
    for threshold, right in ((0.0, [0, 1, 1]), (0.6, [0, 1, 0])):
        two = np.stack([np.full((3, 3), threshold), logits], axis=2)
        found = Emap()(Combined(two, np.array(right)), np.arange(3))
        assert found["emap_accuracy"] == 1.0
        assert found["emap_gap"] == pytest.approx(np.mean((np.diag(logits) > threshold) == right) - 1.0)


def test_a_sum_has_no_gap_and_an_interaction_is_all_gap():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 40, 5))
    labels = (first + second).argmax(1)
    assert Emap()(Combined(first[:, None] + second[None], labels), np.arange(40)) == {
        "emap_accuracy": 1.0,
        "emap_gap": 0.0,
    }
    bits = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (10, 1))
    logits = np.eye(2)[bits[:, None, 0] ^ bits[None, :, 1]]
    found = Emap()(Combined(logits, bits[:, 0] ^ bits[:, 1]), np.arange(40))
    assert found["emap_gap"] == pytest.approx(0.5, abs=0.01)  # XOR is at chance, 1/2


@pytest.mark.parametrize("count", [2, 3])
def test_nothing_additive_is_closer(count):
    """The residual on all combinations is orthogonal to every function of one modality."""
    rng = np.random.default_rng(count)
    logits = rng.normal(size=(6,) * count + (1,))
    axes = range(count)
    alone = [logits.mean(tuple(b for b in axes if b != axis), keepdims=True) for axis in axes]
    residual = logits - (sum(alone) - (count - 1) * logits.mean(keepdims=True))
    for axis in axes:
        np.testing.assert_allclose(residual.mean(tuple(b for b in axes if b != axis)), 0, atol=1e-12)
    every = (np.arange(6),) * count
    np.testing.assert_allclose(additive(logits), (logits - residual)[every], atol=1e-12)


def test_the_means_and_the_accuracies_are_over_the_same_examples():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(200, 200, 3)), rng.integers(0, 3, 200)
    for examples in (6, 200):
        some = np.linspace(0, 199, examples).astype(int)
        few = logits[np.ix_(some, some)].astype(np.float32)
        found = Emap(examples=examples)(Combined(logits, labels), np.arange(200))
        expected = (additive(few).argmax(1) == labels[some]).mean()
        assert found["emap_accuracy"] == expected
        own = (few[np.arange(examples), np.arange(examples)].argmax(1) == labels[some]).mean()
        assert found["emap_gap"] == own - expected


def test_many_classes_have_fewer_examples(monkeypatch):
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(40, 40, 5)), rng.integers(0, 5, 40)
    few = Emap(examples=6)(Combined(logits, labels), np.arange(40))
    monkeypatch.setattr(emap, "LOGITS", 36 * 5 + 4)
    assert Emap()(Combined(logits, labels), np.arange(40)) == few


def model_of(name, names, seed=0):
    dataset = DATASETS[names]
    return Model(make_strategy(name, names, seed), dataset, to_device(dataset))


def by_definition(model, examples):
    """Returns f̂ and f by a call of the model for every combination, or for few at a time."""
    parts, count = model.encode(examples), len(examples)
    names = sorted(model.modalities)
    combinations = np.array([*itertools.product(range(count), repeat=len(names))])
    every = model.logits(parts, {name: combinations[:, axis] for axis, name in enumerate(names)}).astype(np.float64)
    projected = -(len(names) - 1) * every.mean(0) * np.ones((count, 1))
    for axis in range(len(names)):
        projected += np.stack([every[combinations[:, axis] == i].mean(0) for i in range(count)])
    return projected, model.logits(parts)


@pytest.mark.parametrize(
    ("name", "names", "examples"),
    [("tensor", TWO, 24), ("film", TWO, 12), ("early-channel", TWO, 12), ("bottleneck", TWO, 12), ("tensor", THREE, 9)],
)
def test_a_strategy_has_the_values_of_the_definition(name, names, examples):
    model = model_of(name, names)
    of_two = round(examples ** (len(names) / 2))  # as many combinations of two
    test = DATASETS[names].splits["test"]
    chosen = test[np.linspace(0, len(test) - 1, examples).astype(int)]
    projected, own = by_definition(model, chosen)
    labels = DATASETS[names].labels[chosen]
    found = Emap(examples=of_two, costly_examples=of_two)(model, test)
    assert found["emap_accuracy"] == (projected.argmax(1) == labels).mean()
    assert found["emap_gap"] == (own.argmax(1) == labels).mean() - found["emap_accuracy"]
    grid = model.grid(model.encode(chosen))
    np.testing.assert_allclose(additive(grid), projected, atol=1e-5)
    assert np.abs(projected - own).max() > 1e-4  # it interacts


@pytest.mark.parametrize("names", [TWO, THREE])
@pytest.mark.parametrize("name", ["late-mean", "late-weighted", "late-posthoc"])
def test_a_sum_of_logits_has_no_gap(name, names):
    model = model_of(name, names)
    assert Emap(examples=40)(model, DATASETS[names].splits["test"])["emap_gap"] == 0
    grid = model.grid(model.encode(DATASETS[names].splits["test"][:8]))
    np.testing.assert_allclose(additive(grid), grid[(np.arange(8),) * len(names)], atol=1e-5)


def test_the_grid_has_an_axis_for_each_modality():
    """Of different lengths, and of more combinations than are joined at once, so that the last block is padded."""
    model, test = model_of("tensor", TWO), DATASETS[TWO].splits["test"]
    images, texts = 24, 30
    assert models.JOINED < images * texts < 2 * models.JOINED
    parts = {"image": model.encode_one("image", test[:images]), "text": model.encode_one("text", test[-texts:])}
    image, text = np.divmod(np.arange(images * texts), texts)
    expected = model.logits(parts, {"image": image, "text": text}).reshape(images, texts, -1)
    np.testing.assert_allclose(model.grid(parts), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "examples", "encoded"), [("concat", 70, 2), ("film", 12, 0)])
def test_models_of_one_strategy_share_a_compilation(monkeypatch, name, examples, encoded):
    traced = {"_predict_grid": 0, "_encode": 0}

    def count(of, static):
        function = cast(Any, getattr(models, of)).__wrapped__

        def counted(*arguments):
            traced[of] += 1
            return function(*arguments)

        monkeypatch.setattr(models, of, jax.jit(counted, static_argnums=static))

    count("_predict_grid", (0, 1, 2))
    count("_encode", (0, 1))
    some = np.resize(DATASETS[TWO].splits["test"], examples)
    for seed in (0, 1):
        Emap(examples=examples, costly_examples=examples)(model_of(name, TWO, seed), some)
    assert traced == {"_predict_grid": 1, "_encode": encoded}


def test_what_it_is_not_computed_for():
    for names in (TWO, THREE):
        assert Emap().skip(StrategySpec("concat"), make_task(*names)) is None
        assert Emap().skip(StrategySpec("image-only"), make_task(*names)) == "image-only reads image alone"
