"""Representations: what a linear probe reads from them, and how similar two of them are."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Values of C, the inverse strength of scikit-learn's penalty, among which validation chooses."""
_MAX_ITERATIONS = 1000


class Labelled(NamedTuple):
    """Features of some examples, with their labels."""

    features: Float[np.ndarray, "example feature"]
    labels: Int[np.ndarray, " example"]


def probe_accuracy(train: Labelled, validation: Labelled, test: Labelled) -> float:
    """Returns the test accuracy of a linear probe: a logistic regression on frozen features.

    The features are standardised with the mean and standard deviation of the training examples. Of the strengths of the
    penalty, the one with the highest validation accuracy is taken, the strongest of several. Alain and Bengio,
    "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644.

    Warns:
      ConvergenceWarning: a fit has not converged.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    present = np.unique(train.labels)
    if len(present) == 1:
        return float((test.labels == present[0]).mean())
    mean, std = train.features.mean(0), train.features.std(0)
    std[std == 0] = 1.0
    fitted, held_out, final = ((part.features - mean) / std for part in (train, validation, test))
    model = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    best, found = -1.0, math.nan
    with threadpool_limits(1):  # the fits are small, and on shared cores threads wait for each other
        for strength in STRENGTHS:
            model.C = strength
            model.fit(fitted, train.labels)
            score = float(np.mean(model.predict(held_out) == validation.labels))
            if score > best:
                best, found = score, float(np.mean(model.predict(final) == test.labels))
    return found


def unbiased_hsic(x: Float[np.ndarray, "example feature"], y: Float[np.ndarray, "example other"]) -> float:
    """Returns the unbiased estimate of the Hilbert-Schmidt independence criterion of two linear kernels.

    HSIC = (tr(K L) + 1ᵀK1 1ᵀL1 / ((n - 1)(n - 2)) - 2 / (n - 2) 1ᵀK L1) / (n (n - 3)), where K = x xᵀ and L = y yᵀ with
    zeros on their diagonals. Computed from the features, without the n × n kernels. Song et al., "Feature Selection via
    Dependence Maximization", JMLR 13, 2012.
    """
    n = len(x)
    x_diagonal, y_diagonal = (x**2).sum(1), (y**2).sum(1)
    x_rows, y_rows = x @ x.sum(0) - x_diagonal, y @ y.sum(0) - y_diagonal
    trace = ((x.T @ y) ** 2).sum() - x_diagonal @ y_diagonal
    between = x_rows.sum() * y_rows.sum() / ((n - 1) * (n - 2))
    return float((trace + between - 2 / (n - 2) * (x_rows @ y_rows)) / (n * (n - 3)))


def cka(x: Float[np.ndarray, "example feature"], y: Float[np.ndarray, "example other"]) -> float:
    """Returns the linear centred kernel alignment of two representations of the same examples.

    CKA = HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) with the unbiased estimates: 1 for representations that differ by an
    orthogonal map, a scale and a shift, about 0 for independent ones, also negative. The usual estimates are biased
    upwards where there are more features than examples. NaN for fewer than four examples, or if a representation is
    the same for all.

    Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv:1905.00414; Murphy,
    Zylberberg and Fyshe, "Correcting Biased Centered Kernel Alignment Measures in Biological and Artificial Neural
    Networks", 2024, arXiv:2405.01012.
    """
    if len(x) < 4:
        return math.nan
    # a shift changes nothing but the rounding; what is the same for all examples becomes exactly 0
    x, y = (features.astype(np.float64) - features[0].astype(np.float64) for features in (x, y))
    scale = unbiased_hsic(x, x) * unbiased_hsic(y, y)
    return unbiased_hsic(x, y) / math.sqrt(scale) if scale > 0 else math.nan
