"""The projection against its worked example, and on functions that are a sum and that are none."""

import numpy as np
import pytest

from fusion_bench.diagnostics.emap import Emap
from fusion_bench.diagnostics.model import Model
from fusion_bench.fusion.registry import StrategySpec
from tests.tasks import make_task


class Pairs(Model):
    """Has the logits `pairs[i, j]` of example i's image and example j's text."""

    def __init__(self, pairs, labels):
        self.modalities = ("image", "text")
        self.pairs, self.right = pairs, labels

    def labels(self, indices):
        return self.right[indices]

    def encode(self, indices):
        return {"image": indices, "text": indices}

    def logits(self, parts, rows=None):
        text = parts["text"][rows["text"]] if rows else parts["text"]
        return self.pairs[parts["image"], text].astype(np.float32)


def projected(pairs):
    """Returns f̂ by the definition."""
    return pairs.mean(1) + pairs.mean(0) - pairs.mean((0, 1))


def test_the_worked_example():
    """Of the paper's appendix G, with one logit beside a constant: f̂ is -0.8, 2.1 and 0.5."""
    pairs = np.array([[-1.3, 0.3, -0.2], [0.8, 3.0, 1.1], [1.1, -0.1, 0.7]])
    np.testing.assert_allclose(projected(pairs), [-0.8, 2.1, 0.5], atol=1e-12)
    for threshold, right in ((0.0, [0, 1, 1]), (0.6, [0, 1, 0])):
        two = np.stack([np.full((3, 3), threshold), pairs], axis=2)
        found = Emap()(Pairs(two, np.array(right)), np.arange(3))
        assert found["emap_accuracy"] == 1.0
        assert found["emap_gap"] == pytest.approx(np.mean((np.diag(pairs) > threshold) == right) - 1.0)


def test_a_sum_has_no_gap_and_an_interaction_is_all_gap():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 40, 5))
    labels = (first + second).argmax(1)
    assert Emap()(Pairs(first[:, None] + second[None], labels), np.arange(40)) == {
        "emap_accuracy": 1.0,
        "emap_gap": 0.0,
    }
    bits = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (10, 1))
    pairs = np.eye(2)[bits[:, None, 0] ^ bits[None, :, 1]]
    found = Emap()(Pairs(pairs, bits[:, 0] ^ bits[:, 1]), np.arange(40))
    assert found["emap_gap"] == pytest.approx(0.5, abs=0.01)  # XOR is at chance, 1/2


def test_the_projection_is_the_definition():
    pairs = np.random.default_rng(1).normal(size=(12, 12, 3))
    labels = projected(pairs).argmax(1)
    assert Emap()(Pairs(pairs, labels), np.arange(12))["emap_accuracy"] == 1.0
    chosen = np.linspace(0, 11, 6).astype(int)
    few = projected(pairs[np.ix_(chosen, chosen)]).argmax(1)
    some = labels.copy()
    some[chosen] = few
    assert Emap(examples=6)(Pairs(pairs, some), np.arange(12))["emap_accuracy"] == 1.0


def test_what_it_is_not_computed_for():
    assert Emap().skip(StrategySpec("concat"), make_task("image", "text")) is None
    assert Emap().skip(StrategySpec("image-only"), make_task("image", "text")) == "image-only reads image alone"
    assert "for two modalities" in str(Emap().skip(StrategySpec("concat"), make_task("image", "text", "audio")))
