import numpy as np
import pytest

from fusion_bench.metrics.calibration import calibration_error, fit_temperature, reliability
from tests.oracles import log_softmax, softmax


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


def negative_log_likelihood(logits, labels, temperature):
    return -log_softmax(logits / temperature)[np.arange(len(labels)), labels].mean()


def draw(rng, logits):
    """Draws a label of each row from the softmax of its logits."""
    cumulative = softmax(logits).cumsum(1)
    return np.minimum((rng.random((len(logits), 1)) > cumulative).sum(1), logits.shape[1] - 1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_recovers_a_known_temperature(temperature):
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 5)) * 2
    fitted = fit_temperature(honest * temperature, draw(rng, honest))
    assert fitted == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_temperature_is_the_best_of_a_fine_grid(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, 4)) * rng.uniform(0.5, 5)
    labels = draw(rng, logits / rng.uniform(0.5, 3))
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 4001))
    losses = [negative_log_likelihood(logits, labels, t) for t in grid]
    fitted = fit_temperature(logits.astype(np.float32), labels)
    assert fitted == pytest.approx(grid[np.argmin(losses)], rel=5e-3)
    assert negative_log_likelihood(logits, labels, fitted) <= min(losses) + 1e-6


def test_temperature_stays_within_its_bounds():
    certain, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    assert fit_temperature(certain, labels) == pytest.approx(0.05, rel=1e-3)  # always right: never sure enough
    assert fit_temperature(certain, (labels + 1) % 3) == pytest.approx(20, rel=1e-3)  # always wrong: too sure
