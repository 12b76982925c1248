import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from fusion_bench.metrics.classification import (
    LOWER_IS_BETTER,
    METRICS,
    accuracy,
    balanced_accuracy,
    brier_score,
    class_accuracy,
    confusion_matrix,
    cross_entropy,
    macro_f1,
    roc_auc,
    roc_curve,
)

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


# three of class 0 (two found, one taken for 1), one of class 1 (found), none of class 2
COUNTED = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1]]))
TRUE = np.array([0, 0, 0, 1])


def test_counts_by_hand():
    assert confusion_matrix(COUNTED, TRUE).tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(class_accuracy(COUNTED, TRUE), [2 / 3, 1, np.nan])
    assert balanced_accuracy(COUNTED, TRUE) == pytest.approx((2 / 3 + 1) / 2)
    # class 0: precision 1, recall 2/3; class 1: precision 1/2, recall 1
    assert macro_f1(COUNTED, TRUE) == pytest.approx((0.8 + 2 / 3) / 2)


def test_brier_score_by_hand():
    errors = (0.3**2 + 0.2**2 + 0.1**2, 0.5**2 + 0.3**2 + 0.2**2, 0.7**2 + 0.4**2 + 0.3**2, 0.2**2 + 2 * 0.1**2)
    assert brier_score(COUNTED, TRUE) == pytest.approx(sum(errors) / 4)


def test_area_under_the_curve_counts_ordered_pairs():
    # class 0 against the one other example: .7, .5, .3 all above .1; class 1: .8 above .2, .3, .4
    assert roc_auc(COUNTED, TRUE) == 1
    # class 1: .2 and .8 against .3 and .4, two of four pairs in order; class 0: .5, .3 against .7, .1, two of four
    labels = np.array([1, 0, 0, 1])
    assert roc_auc(COUNTED, labels) == pytest.approx((2 / 4 + 2 / 4) / 2)


@pytest.mark.parametrize("places", [0, 1, 9])  # of the logits: with many ties, with some, with none
def test_area_and_curve_are_those_of_scikit_learn(places):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    logits = np.round(rng.normal(size=(200, 6)), places)  # class 5 has no example
    probabilities = softmax(logits, axis=1)
    grid, areas, curves = np.linspace(0, 1, 101), [], []
    for c in range(5):
        areas.append(metrics.roc_auc_score(labels == c, probabilities[:, c]))
        curves.append(np.interp(grid, *metrics.roc_curve(labels == c, probabilities[:, c])[:2]))
    assert roc_auc(logits, labels) == pytest.approx(np.mean(areas), abs=1e-12)
    np.testing.assert_allclose(roc_curve(logits, labels)[1][1:], np.mean(curves, axis=0)[1:], atol=1e-12)


def test_without_two_classes_there_is_no_curve():
    assert math.isnan(roc_auc(COUNTED, np.zeros(4, int)))
    assert np.isnan(roc_curve(COUNTED, np.zeros(4, int))[1]).all()


def test_the_curve_rises_to_one_and_its_area_is_the_auc():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 3000)
    logits = rng.normal(size=(3000, 3)) + np.eye(3)[labels]
    false_rate, true_rate = roc_curve(logits, labels, points=1001)
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)
    assert (np.diff(true_rate) >= 0).all()
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(roc_auc(logits, labels), abs=2e-3)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_knows_perfect_from_guessing(name):
    labels = np.arange(400) % 4
    perfect = METRICS[name](50 * np.eye(4)[labels], labels)
    guessed = METRICS[name](np.random.default_rng(0).normal(size=(400, 4)), labels)
    assert perfect == pytest.approx(0 if name in LOWER_IS_BETTER else 1, abs=1e-9)
    assert (guessed > perfect) if name in LOWER_IS_BETTER else (guessed < perfect)
