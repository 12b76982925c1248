"""Whether a confidence of 80 % is right four times in five."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

BINS = 15
"""Number of bins of confidence, equal in width, as in Guo et al. 2017."""


class Reliability(NamedTuple):
    """What is found in each bin of confidence, from 0 to 1; NaN means a bin without examples.

    Attributes:
      confidence: mean highest probability.
      accuracy: part of the examples that are right.
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
