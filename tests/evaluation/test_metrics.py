import math

import numpy as np
import pytest

from fusion_bench.evaluation.metrics import accuracy, cross_entropy

LABELS = np.array([0, 2, 1, 1], np.int32)


def test_accuracy_counts_the_highest_logits():
    logits = np.array([[2, 1, 0], [0, 1, 2], [3, 1, 0], [0, 5, 0]], np.float32)
    assert accuracy(logits, LABELS) == 0.75


def test_accuracy_gives_a_tie_to_the_first_class():
    logits = np.zeros((4, 3), np.float32)
    assert accuracy(logits, LABELS) == 0.25


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    assert cross_entropy(np.full((4, 3), 7, np.float32), LABELS) == pytest.approx(math.log(3), abs=1e-12)


def test_cross_entropy_equals_the_formula():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    losses = []
    for row, label in zip(logits.astype(float).tolist(), LABELS, strict=True):
        losses.append(-math.log(math.exp(row[label]) / sum(math.exp(score) for score in row)))
    assert cross_entropy(logits, LABELS) == pytest.approx(sum(losses) / 4, rel=1e-12)


def test_cross_entropy_of_extreme_logits_is_finite():
    logits = np.array([[-1000, 1000, 0]] * 4, np.float32)
    assert cross_entropy(logits, LABELS) == pytest.approx((2000 + 1000 + 0 + 0) / 4)
