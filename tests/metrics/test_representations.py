"""Linear probes and CKA against known answers and their definitions, in float64."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from fusion_bench.metrics.representations import STRENGTHS, Labelled, cka, probe_accuracy, unbiased_hsic

CLASSES = 3


def draw(count, *, noise, seed, features=8):
    """Draws features whose first ones are the class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    signal = 3.0 * np.eye(CLASSES, features)[labels]
    return Labelled((5 + signal + noise * rng.normal(size=(count, features))).astype(np.float32), labels)


def accuracies(train, validation, test):
    """Returns the accuracies on validation and on test by strength C: Σ loss + ||W||² / (2 C), biases are free."""
    mean, std = train.features.astype(np.float64).mean(0), train.features.astype(np.float64).std(0)
    x, *others = [(part.features - mean) / std for part in (train, validation, test)]

    def fit(strength):
        def objective(flat):
            weights = flat.reshape(x.shape[1] + 1, CLASSES)
            scores = log_softmax(x @ weights[1:] + weights[0], axis=1)
            error = np.exp(scores) - np.eye(CLASSES)[train.labels]
            gradient = np.vstack([error.sum(0), x.T @ error + weights[1:] / strength])
            loss = -scores[np.arange(len(x)), train.labels].sum() + (weights[1:] ** 2).sum() / (2 * strength)
            return loss, gradient.ravel()

        return minimize(objective, np.zeros((x.shape[1] + 1) * CLASSES), jac=True, tol=1e-9).x.reshape(-1, CLASSES)

    fitted = [fit(strength) for strength in STRENGTHS]
    return [
        [float(((rows @ w[1:] + w[0]).argmax(1) == part.labels).mean()) for w in fitted]
        for rows, part in zip(others, (validation, test), strict=True)
    ]


def test_features_that_hold_the_class_are_read_without_error_and_noise_is_at_chance():
    clear = [draw(count, noise=0.1, seed=seed) for seed, count in enumerate((60, 30, 300))]
    assert probe_accuracy(*clear) == 1.0
    lost = [draw(count, noise=1e6, seed=seed) for seed, count in enumerate((300, 100, 3000))]
    assert probe_accuracy(*lost) == pytest.approx(1 / CLASSES, abs=0.03)


def test_the_strength_is_chosen_on_validation_and_not_on_test():
    """Of many draws, those in which the two would choose otherwise decide."""
    disagreed = 0
    for seed in range(12):
        parts = [draw(count, noise=6.0, seed=100 * seed + part) for part, count in enumerate((60, 30, 200))]
        on_validation, on_test = accuracies(*parts)
        expected = on_test[int(np.argmax(on_validation))]
        assert probe_accuracy(*parts) == pytest.approx(expected, abs=1.5 / 200)  # one example, by rounding
        disagreed += max(on_test) - expected > 1.5 / 200
    assert disagreed >= 3


def test_a_feature_that_never_changes_and_a_class_that_is_alone():
    train, validation, test = (draw(count, noise=0.1, seed=seed) for seed, count in enumerate((60, 30, 100)))
    for part in (train, validation, test):
        part.features[:, -1] = 7.0
    assert probe_accuracy(train, validation, test) == 1.0
    only = train._replace(labels=np.full(60, 2))
    assert probe_accuracy(only, validation, test) == (test.labels == 2).mean()


def kernels(x, y):
    """Returns both linear kernels, with zeros on their diagonals."""
    return [features @ features.T * (1 - np.eye(len(features))) for features in (x, y)]


def test_hsic_is_its_formula_and_the_mean_over_all_quadruples():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 5)) + 2
    y[:, :3] += x
    k, ell = kernels(x, y)
    n, ones = 7, np.ones(7)
    formula = np.trace(k @ ell) + (ones @ k @ ones) * (ones @ ell @ ones) / ((n - 1) * (n - 2))
    formula = (formula - 2 / (n - 2) * ones @ k @ ell @ ones) / (n * (n - 3))
    # E k(a, b) l(a, b) + E k(a, b) l(c, d) - 2 E k(a, b) l(a, c), each over different examples
    quadruples = [
        k[a, b] * (ell[a, b] + ell[c, d] - 2 * ell[a, c]) for a, b, c, d in itertools.permutations(range(n), 4)
    ]
    assert unbiased_hsic(x, y) == pytest.approx(formula, rel=1e-10)
    assert unbiased_hsic(x, y) == pytest.approx(np.mean(quadruples), rel=1e-10)


def biased_cka(x, y):
    """Returns the CKA of centred kernels with their diagonals."""
    x, y = x - x.mean(0), y - y.mean(0)
    k, ell = x @ x.T, y @ y.T
    return (k * ell).sum() / np.sqrt((k * k).sum() * (ell * ell).sum())


def test_cka_is_1_up_to_an_orthogonal_map_a_scale_and_a_shift_and_no_further():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 10)) * np.linspace(0.2, 2, 10)
    rotation, _ = np.linalg.qr(rng.normal(size=(10, 10)))
    moved = -3.0 * x @ rotation + rng.normal(size=10)
    assert cka(x, x) == pytest.approx(1.0, abs=1e-12)
    assert cka(x, moved) == pytest.approx(1.0, abs=1e-10)
    y = x[:, :4] + rng.normal(size=(200, 4))
    assert cka(moved, y) == pytest.approx(cka(x, y), abs=1e-10)
    assert cka(y, x) == pytest.approx(cka(x, y), abs=1e-12)
    assert cka(x + 1e6, y) == pytest.approx(cka(x, y), abs=1e-6)
    assert cka(x, x * np.linspace(2, 0.2, 10)) < 0.95


@pytest.mark.parametrize(("count", "features"), [(100, 400), (300, 300)])
def test_independent_features_are_unlike_also_where_there_are_more_than_examples(count, features):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, count, features))
    assert biased_cka(x, y) > 0.3
    assert abs(cka(x, y)) < 0.05


def test_cka_of_few_examples_is_on_average_that_of_many():
    """Half of the variance is shared; the biased estimate is far above from few examples."""
    rng = np.random.default_rng(3)

    def draw_two(count):
        shared, own, other = rng.normal(size=(3, count, 50))
        return shared + own, shared + other

    many = cka(*draw_two(20000))
    few = [draw_two(40) for _ in range(200)]
    assert np.mean([cka(x, y) for x, y in few]) == pytest.approx(many, abs=0.02)
    assert np.mean([biased_cka(x, y) for x, y in few]) > many + 0.3


def test_what_has_no_similarity():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(50, 3))
    assert np.isnan(cka(x, np.full((50, 2), 0.1)))
    assert np.isnan(cka(x[:3], x[:3]))
