"""Information in bits: mutual information, and its partial decomposition for two sources.

The decomposition is that of Bertschinger et al., "Quantifying Unique Information", Entropy 2014 (BROJA). Over all
tables Q with the marginals Q(x1, t) = P(x1, t) and Q(x2, t) = P(x2, t), let I* = min_Q I_Q(T; X1, X2). Then

    redundant   R  = I(T; X1) + I(T; X2) - I*
    unique      U1 = I* - I(T; X2),  U2 = I* - I(T; X1)
    synergistic S  = I_P(T; X1, X2) - I*
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

MAX_ITERATIONS = 200_000
_RELAXATION = 1.5  # 1: plain alternating projections; it diverges from 2 on
_EVERY = 10  # iterations from one test of the gap to the next


class Decomposition(NamedTuple):
    """What two sources tell of a target, in bits; the four parts add up to I(T; X1, X2)."""

    redundant: float
    unique_first: float
    unique_second: float
    synergistic: float


class NotConverged(ValueError):
    """The minimum is not known as exactly as was asked for."""


class Bounds(NamedTuple):
    """Two numbers in bits, between which the minimum lies."""

    lower: float
    upper: float


def mutual_information(joint: Float[np.ndarray, "source target"]) -> float:
    """Returns I(X; T) = Σ P(x, t) log2 (P(x, t) / (P(x) P(t))), in bits."""
    there = joint > 0
    sources, targets = (np.broadcast_to(joint.sum(axis, keepdims=True), joint.shape)[there] for axis in (1, 0))
    # a difference of logarithms, since products of small probabilities may be 0
    return float((joint[there] * (np.log2(joint[there]) - np.log2(sources) - np.log2(targets))).sum())


def decompose(joint: Float[np.ndarray, "first second target"], tolerance: float = 1e-5) -> Decomposition:
    """Returns the partial information decomposition of a table P(x1, x2, t).

    Args:
      joint: the table.
      tolerance: largest error of I*, in bits. I* is never below its true value, by more than rounding.

    Raises:
      ValueError: the table is no distribution.
      NotConverged: `tolerance` is not reached.
    """
    if (joint < 0).any() or not np.isclose(joint.sum(), 1):
        raise ValueError("a joint distribution has probabilities that sum to 1")
    joint = joint[:, :, joint.sum((0, 1)) > 0]
    first, second = (mutual_information(joint.sum(axis)) for axis in (1, 0))
    both = mutual_information(joint.reshape(-1, joint.shape[2]))
    least = least_information(_merged(joint.sum(1)), _merged(joint.sum(0)), tolerance).upper
    least = min(max(least, first, second), both, first + second)  # I* is between these too
    parts = first + second - least, least - second, least - first, both - least
    return Decomposition(*(max(0.0, bits) for bits in parts))


def least_information(
    first: Float[np.ndarray, "first target"], second: Float[np.ndarray, "second target"], tolerance: float
) -> Bounds:
    """Returns bounds of I* = min_Q I_Q(T; X1, X2) over the tables with these two marginals, `tolerance` bits apart.

    By alternating projections (Banerjee, Rauh and Montúfar, ISIT 2018, arXiv:1709.07487): given r(x1, x2), each
    Q(x1, x2 | t) = r(x1, x2) u_t(x1) v_t(x2) is the table of the right marginals that is closest to r; given these, r
    is their mean over t. Here r moves 1.5 times as far, and the factors u and v by one step of Sinkhorn's iterations
    each time.

    The lower bound is that of the factors, by duality. The upper bound is I_Q of a table that has exactly the right
    marginals.

    Args:
      first: P(x1, t), without values or targets of probability 0.
      second: P(x2, t), likewise.
      tolerance: largest distance of the bounds, in bits.

    Raises:
      NotConverged: the bounds are further apart after `MAX_ITERATIONS` iterations.
    """
    prior = first.sum(0)
    first, second = first / prior, second / prior  # P(x1 | t), P(x2 | t)
    mean, right = (first * prior) @ second.T, np.ones_like(second)
    bounds = Bounds(0.0, np.inf)
    for step in range(MAX_ITERATIONS):
        # a step of Sinkhorn towards Q(x1, x2 | t) = mean(x1, x2) left(x1, t) right(x2, t)
        left = np.divide(first, mean @ right, out=np.zeros_like(first), where=first > 0)
        right = np.divide(second, mean.T @ left, out=np.zeros_like(second), where=second > 0)
        ratio = (left * prior) @ right.T
        if step % _EVERY == 0 or step == MAX_ITERATIONS - 1:
            lower = max(bounds.lower, _lower_bound(first, second, prior, left, right))
            table = _with_marginals(mean[:, :, None] * left[:, None] * right, first, second) * prior
            bounds = Bounds(lower, mutual_information(table.reshape(-1, len(prior))))
            if bounds.upper - bounds.lower <= tolerance:
                return bounds
        mean *= ratio**_RELAXATION
        mean /= mean.sum()
    raise NotConverged(
        f"the minimum is not known to {tolerance:g} bits after {MAX_ITERATIONS} iterations: "
        f"it is between {bounds.lower:.9g} and {bounds.upper:.9g}"
    )


def _lower_bound(
    first: Float[np.ndarray, "first target"],
    second: Float[np.ndarray, "second target"],
    prior: Float[np.ndarray, " target"],
    left: Float[np.ndarray, "first target"],
    right: Float[np.ndarray, "second target"],
) -> float:
    """Returns a lower bound of I* in bits, by Lagrangian duality, for any factors u and v, converged or not.

    It is Σ_t P(t) (Σ_x1 P(x1 | t) log2 u_t(x1) + Σ_x2 P(x2 | t) log2 v_t(x2)) if Σ_t P(t) u_t(x1) v_t(x2) <= 1 for all
    x1 and x2. Other factors are first divided: u by the maxima over x2 of this sum, which costs Σ P(x1) log2 maximum,
    or v by the maxima over x1, whichever costs less.
    """
    ratio = (left * prior) @ right.T
    excess = min((marginal @ prior) @ np.log2(ratio.max(axis)) for axis, marginal in ((1, first), (0, second)))
    return float(prior @ (_cross(first, left) + _cross(second, right)) - excess)


def _with_marginals(
    tables: Float[np.ndarray, "first second target"],
    first: Float[np.ndarray, "first target"],
    second: Float[np.ndarray, "second target"],
) -> Float[np.ndarray, "first second target"]:
    """Returns tables with exactly these marginals given each target, close to tables that have them nearly.

    Rows and columns with too much are scaled down, and what is missing is added as a product of what rows and columns
    miss (Altschuler, Weed and Rigollet, NeurIPS 2017, arXiv:1705.09634, algorithm 2).
    """
    for axis, marginal in ((1, first), (0, second)):
        has = tables.sum(axis)
        scale = np.minimum(1, np.divide(marginal, has, out=np.ones_like(has), where=has > 0))
        tables = tables * np.expand_dims(scale, axis)
    rows, columns = (np.maximum(0, target - tables.sum(axis)) for axis, target in ((1, first), (0, second)))
    missing = rows.sum(0)
    shares = np.divide(rows, missing, out=np.zeros_like(rows), where=missing > 0)
    return tables + shares[:, None] * columns


def _merged(joint: Float[np.ndarray, "source target"]) -> Float[np.ndarray, "value target"]:
    """Returns a table in which values of the source that tell the same of the target are one."""
    joint = joint[joint.sum(1) > 0]
    posteriors = (joint / joint.sum(1, keepdims=True)).round(12)
    _, group = np.unique(posteriors, axis=0, return_inverse=True)
    merged = np.zeros((group.max() + 1, joint.shape[1]))
    np.add.at(merged, group.reshape(-1), joint)
    return merged


def _cross(
    probabilities: Float[np.ndarray, "value target"], factors: Float[np.ndarray, "value target"]
) -> Float[np.ndarray, " target"]:
    """Returns Σ_x P(x | t) log2 factor(x, t), where 0 log 0 = 0."""
    logs = np.log2(factors, out=np.zeros_like(factors), where=probabilities > 0)
    return (probabilities * logs).sum(0)
