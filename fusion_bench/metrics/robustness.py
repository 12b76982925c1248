"""Robustness from accuracies under a shift of the data; none of it is normalised by other methods.

Only effective robustness depends on other models, by its stated fit.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

MIN_MODELS = 10
"""Models, at least, whose accuracies the fit of effective robustness is made to."""


class EffectiveRobustness(NamedTuple):
    """Effective robustness of each model, and the fit that it is measured from.

    Attributes:
      values: accuracy under the shift less the one that the fit expects.
      slope, intercept: of the fit, between logits of accuracies.
      r_squared: part of the variance of the logits under the shift that the fit explains.
    """

    values: Float[np.ndarray, " model"]
    slope: float
    intercept: float
    r_squared: float


def mean_over_severities(values: Sequence[float]) -> float:
    """Returns the mean of a metric over severities 1, 2, ….

    The area under its curve over the index of the severity, each severity one unit wide, divided by the width.
    """
    return float(np.mean(values))


def retention(accuracy: float, unimodal: float) -> float:
    """Returns the accuracy under a shift over that of a unimodal model under the same shift; NaN if that one is 0.

    Above 1 the other modalities still help; below 1 the unimodal model, trained alone, would have been better.
    """
    return accuracy / unimodal if unimodal else math.nan


def effective_robustness(
    clean: Float[np.ndarray, " model"], shifted: Float[np.ndarray, " model"], examples: int
) -> EffectiveRobustness | None:
    """Returns the accuracies under a shift beyond those that accuracies without it let expect.

    ρ = acc_shift − β(acc_clean), where logit β(a) = intercept + slope · logit a is fitted to all models by least
    squares (Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image Classification", NeurIPS 2020,
    arXiv:2007.00644). It is relative to these models: another set of models gives another fit. None for fewer than
    `MIN_MODELS` models, or if all have one accuracy without the shift.

    Args:
      clean: accuracy of each model without the shift.
      shifted: with it.
      examples: number of test examples; for their logits, accuracies of 0 and 1 are taken as half an example more or
        less.
    """
    half = 0.5 / examples
    x, y = (logit(np.clip(accuracies, half, 1 - half)) for accuracies in (clean, shifted))
    if len(x) < MIN_MODELS or np.ptp(x) < 1e-9:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    expected = intercept + slope * x
    left, total = ((y - expected) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    r_squared = float(1 - left / total) if total > 1e-12 else 1.0
    return EffectiveRobustness(shifted - expit(expected), float(slope), float(intercept), r_squared)
