import numpy as np
import pytest

from fusion_bench.evaluation.calibration import calibration_error, reliability


def logits_of(probabilities):
    return np.log(np.array(probabilities, np.float64))


def test_two_bins_by_hand():
    # confidences .6, .8 (right, wrong) and 1.0 twice (right): bins (.5, .75] and (.75, 1]
    logits = logits_of([[0.6, 0.4], [0.8, 0.2], [1 - 1e-12, 1e-12], [1e-12, 1 - 1e-12]])
    labels = np.array([0, 1, 0, 1])
    found = reliability(logits, labels, bins=4)
    assert found.count.tolist() == [0, 0, 1, 3]
    np.testing.assert_allclose(found.confidence, [np.nan, np.nan, 0.6, 2.8 / 3])
    np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, 1, 2 / 3])
    expected = 1 / 4 * abs(1 - 0.6) + 3 / 4 * abs(2 / 3 - 2.8 / 3)
    assert calibration_error(logits, labels, bins=4) == pytest.approx(expected)


def test_a_bin_includes_its_upper_end():
    assert reliability(logits_of([[0.5, 0.5]]), np.array([0]), bins=2).count.tolist() == [1, 0]


def test_labels_drawn_from_the_probabilities_are_calibrated_and_sharper_scores_are_not():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < rng.random((20000, 1))).sum(1)
    assert calibration_error(logits, labels) < 0.012
    assert calibration_error(3 * logits, labels) > 0.1
