"""Metrics of logits and labels, in float64: scikit-learn's where it has them."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

from fusion_bench.metrics.calibration import calibration_error

Logits = Float[np.ndarray, "example class"]
Labels = Int[np.ndarray, " example"]


def accuracy(logits: Logits, labels: Labels) -> float:
    """Returns the fraction of the examples whose label has the highest logit; the first of equal logits counts."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def cross_entropy(logits: Logits, labels: Labels) -> float:
    """Returns the mean over examples of −log softmax(logits)[label], in nats: the negative log-likelihood."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def brier_score(logits: Logits, labels: Labels) -> float:
    """Returns the mean over examples of Σ_c (p_c − [c is the label])², 0 to 2 (Brier 1950)."""
    errors = softmax(logits.astype(np.float64), axis=1)
    errors[np.arange(len(labels)), labels] -= 1
    return float((errors**2).sum(axis=1).mean())


def confusion_matrix(logits: Logits, labels: Labels) -> Int[np.ndarray, "class class"]:
    """Returns the number of examples of each class (row) by predicted class (column)."""
    from sklearn import metrics

    return metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=np.arange(logits.shape[1]))


def class_accuracy(logits: Logits, labels: Labels) -> Float[np.ndarray, " class"]:
    """Returns the recall of each class; NaN for a class without examples."""
    counts = confusion_matrix(logits, labels)
    totals = counts.sum(axis=1)
    return np.where(totals > 0, counts.diagonal() / np.maximum(totals, 1), np.nan)


def balanced_accuracy(logits: Logits, labels: Labels) -> float:
    """Returns the mean of `class_accuracy` over the classes that have examples."""
    return float(np.nanmean(class_accuracy(logits, labels)))


def macro_f1(logits: Logits, labels: Labels) -> float:
    """Returns the mean over classes of 2 · precision · recall / (precision + recall).

    The mean is over classes that occur among labels or predictions; a class that is never predicted has F1 = 0.
    """
    from sklearn import metrics

    return float(metrics.f1_score(labels, logits.argmax(axis=1), average="macro", zero_division=0.0))  # type: ignore[arg-type]


def roc_auc(logits: Logits, labels: Labels) -> float:
    """Returns the area under the ROC curve of each class against all others, unweighted mean over classes.

    Of a class it is the fraction of pairs, one example of the class and one of another, that its probability orders
    right; a tie is half of one (Mann and Whitney 1947). Classes that no example has, or all examples have, have no
    curve and are left out; NaN if none is left.
    """
    probabilities, is_class = _one_against_all(logits, labels)
    count = is_class.sum(axis=0)
    ranks = (rankdata(probabilities, axis=0) * is_class).sum(axis=0)
    areas = (ranks - count * (count + 1) / 2) / (count * (len(labels) - count))
    return float(areas.mean()) if areas.size else float("nan")


def roc_curve(
    logits: Logits, labels: Labels, points: int = 101
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Returns false and true positive rates, the latter the mean over classes of each class against the others.

    The curves are interpolated at `points` false positive rates, from 0 to 1 in equal steps.
    """
    grid = np.linspace(0, 1, points)
    probabilities, is_class = _one_against_all(logits, labels)
    curves = [np.interp(grid, *_rates(p, of_class)) for p, of_class in zip(probabilities.T, is_class.T, strict=True)]
    mean = np.mean(curves, axis=0) if curves else np.full(points, np.nan)
    mean[0] = 0.0 if curves else np.nan
    return grid, mean


def _rates(
    scores: Float[np.ndarray, " example"], is_class: Bool[np.ndarray, " example"]
) -> tuple[Float[np.ndarray, " threshold"], Float[np.ndarray, " threshold"]]:
    """Returns false and true positive rates from the highest threshold to the lowest; equal scores pass together."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(is_class[order])[last]
    others = last + 1 - found
    return np.append(0.0, others / others[-1]), np.append(0.0, found / found[-1])


def _one_against_all(
    logits: Logits, labels: Labels
) -> tuple[Float[np.ndarray, "example curve"], Bool[np.ndarray, "example curve"]]:
    """Returns the probabilities of the classes that some examples have and some have not, and which ones have them."""
    is_class = labels[:, None] == np.arange(logits.shape[1])
    has_curve = is_class.any(axis=0) & ~is_class.all(axis=0)
    return softmax(logits.astype(np.float64), axis=1)[:, has_curve], is_class[:, has_curve]


METRICS: Mapping[str, Callable[[Logits, Labels], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "roc_auc": roc_auc,
    "nll": cross_entropy,
    "brier": brier_score,
    "ece": calibration_error,
}
"""Every metric that is one number, by its name in tables."""
LOWER_IS_BETTER = ("nll", "brier", "ece")
