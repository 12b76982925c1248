"""Metrics of logits and labels, in NumPy float64."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax


def accuracy(logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"]) -> float:
    """Returns the part of the examples whose label has the highest logit, 0 to 1; the first wins a tie."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def cross_entropy(logits: Float[np.ndarray, "example class"], labels: Int[np.ndarray, " example"]) -> float:
    """Returns the mean over examples of −log softmax(logits)[label], in nats."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
