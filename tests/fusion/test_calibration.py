import numpy as np
import pytest

from fusion_bench.fusion.late.calibration import fit_temperature
from tests.oracles import log_softmax, softmax


def negative_log_likelihood(logits, labels, temperature):
    return -log_softmax(logits / temperature)[np.arange(len(labels)), labels].mean()


def draw(rng, logits):
    """Draws a label of each row from the softmax of its logits."""
    cumulative = softmax(logits).cumsum(1)
    return np.minimum((rng.random((len(logits), 1)) > cumulative).sum(1), logits.shape[1] - 1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_recovers_a_known_temperature(temperature):
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 5)) * 2
    fitted = fit_temperature(honest * temperature, draw(rng, honest))
    assert fitted == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_is_the_best_of_a_fine_grid(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, 4)) * rng.uniform(0.5, 5)
    labels = draw(rng, logits / rng.uniform(0.5, 3))
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 4001))
    losses = [negative_log_likelihood(logits, labels, t) for t in grid]
    fitted = fit_temperature(logits.astype(np.float32), labels)
    assert fitted == pytest.approx(grid[np.argmin(losses)], rel=5e-3)
    assert negative_log_likelihood(logits, labels, fitted) <= min(losses) + 1e-6


def test_stays_within_its_bounds():
    certain, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    assert fit_temperature(certain, labels) == pytest.approx(
        0.05, rel=1e-3
    )  # always right: never sure enough
    assert fit_temperature(certain, (labels + 1) % 3) == pytest.approx(20, rel=1e-3)  # always wrong: too sure
