"""Temperature scaling: the one number that makes a trained classifier's probabilities honest."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LOG_BOUNDS = (np.log(0.05), np.log(20.0))


def fit_temperature(logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"]) -> float:
    """Returns the T that minimises the mean of -log softmax(logits / T)[label], within 0.05 … 20.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599. Fit it on validation data.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        scores = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -scores[np.arange(len(labels)), labels].mean()

    fit = minimize_scalar(negative_log_likelihood, bounds=_LOG_BOUNDS, method="bounded")
    return float(np.exp(fit.x))
