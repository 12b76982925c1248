"""Calibration: reliability diagrams, expected calibration error, temperature scaling."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
"""Number of bins of confidence, equal in width, as in Guo et al. 2017."""
_LOG_TEMPERATURES = (np.log(0.05), np.log(20.0))


class Reliability(NamedTuple):
    """Accuracy and confidence in each bin of confidence, from 0 to 1; NaN means a bin without examples.

    Attributes:
      confidence: mean highest probability.
      accuracy: fraction of the examples that are classified correctly.
      count: number of examples.
    """

    confidence: Float[np.ndarray, " bin"]
    accuracy: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]


def reliability(
    logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"], bins: int = BINS
) -> Reliability:
    """Returns confidence and accuracy by bins of confidence; a bin includes its upper end."""
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    where = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(where, minlength=bins)
    sums = [np.bincount(where, weights=values, minlength=bins) for values in (confidence, correct)]
    means = [np.where(count > 0, total / np.maximum(count, 1), np.nan) for total in sums]
    return Reliability(means[0], means[1], count)


def calibration_error(
    logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"], bins: int = BINS
) -> float:
    """Returns the expected calibration error, Σ_bin n_bin / n · |accuracy − confidence|, 0 to 1.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017,
    arXiv:1706.04599.
    """
    confidence, accuracy, count = reliability(logits, labels, bins)
    return float(np.nansum(count / count.sum() * np.abs(accuracy - confidence)))


def fit_temperature(logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"]) -> float:
    """Returns the temperature T that minimises the mean of -log softmax(logits / T)[label], within 0.05 to 20.

    Temperature scaling, Guo et al. 2017, arXiv:1706.04599. Fit it on validation data.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        scores = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -scores[np.arange(len(labels)), labels].mean()

    fit = minimize_scalar(negative_log_likelihood, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(fit.x))
