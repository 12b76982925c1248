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

MAX_ITERATIONS = 100_000
_WINDOW = 20  # iterations between two looks at the progress


class Decomposition(NamedTuple):
    """What two sources tell of a target, in bits; the four parts add up to I(T; X1, X2)."""

    redundant: float
    unique_first: float
    unique_second: float
    synergistic: float


def mutual_information(joint: Float[np.ndarray, "source target"]) -> float:
    """Returns I(X; T) = Σ P(x, t) log2 (P(x, t) / (P(x) P(t))), in bits."""
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / product[there])).sum())


def decompose(joint: Float[np.ndarray, "first second target"], tolerance: float = 1e-6) -> Decomposition:
    """Returns the partial information decomposition of a table P(x1, x2, t).

    The minimum is found by alternating projections (Banerjee, Rauh and Montúfar, ISIT 2018, arXiv:1709.07487): given
    r(x1, x2), each Q(x1, x2 | t) is the table of the right marginals that is closest to r, by Sinkhorn's iterations;
    given these, r is their mean over t. It stops when I* falls by less than `tolerance` bits in 20 iterations.

    Raises:
      ValueError: the table is no distribution, or the iterations do not end.
    """
    if (joint < 0).any() or not np.isclose(joint.sum(), 1):
        raise ValueError("a joint distribution has probabilities that sum to 1")
    joint = joint[:, :, joint.sum((0, 1)) > 0]
    first, second = (mutual_information(joint.sum(axis)) for axis in (1, 0))
    both = mutual_information(joint.reshape(-1, joint.shape[2]))
    least = _least_information(_merged(joint.sum(1)), _merged(joint.sum(0)), tolerance)
    parts = (first + second - least, least - second, least - first, both - least)
    return Decomposition(*(max(0.0, bits) for bits in parts))  # rounding


def _merged(joint: Float[np.ndarray, "source target"]) -> Float[np.ndarray, "value target"]:
    """Returns a table in which values of the source that tell the same of the target are one."""
    joint = joint[joint.sum(1) > 0]
    posteriors = (joint / joint.sum(1, keepdims=True)).round(12)
    _, group = np.unique(posteriors, axis=0, return_inverse=True)
    merged = np.zeros((group.max() + 1, joint.shape[1]))
    np.add.at(merged, group.reshape(-1), joint)
    return merged


def _least_information(
    first: Float[np.ndarray, "first target"], second: Float[np.ndarray, "second target"], tolerance: float
) -> float:
    """Returns min_Q I_Q(T; X1, X2) over the tables with these two marginals, in bits."""
    prior = first.sum(0)
    rows, columns = (first / prior).T[:, :, None], (second / prior).T[:, None, :]
    tables = rows * columns  # [target, first, second]
    best = np.inf
    for iteration in range(MAX_ITERATIONS):
        mean = np.tensordot(prior, tables, axes=1)
        if iteration % _WINDOW == 0:
            ratio = np.divide(tables, mean, out=np.ones_like(tables), where=tables > 0)
            information = float((prior[:, None, None] * tables * np.log2(ratio)).sum())
            if best - information < tolerance:
                return information
            best = information
        tables = _projected(np.broadcast_to(mean, tables.shape), rows, columns)
    raise ValueError(f"no minimum after {MAX_ITERATIONS} iterations; the last step was above {tolerance:g} bits")


def _projected(tables: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns tables scaled to the marginals of their rows and columns."""
    for _ in range(1000):
        total = tables.sum(2, keepdims=True)
        tables = tables * np.divide(rows, total, out=np.zeros_like(total), where=total > 0)
        total = tables.sum(1, keepdims=True)
        if np.abs(total - columns).max() < 1e-13:
            break
        tables = tables * np.divide(columns, total, out=np.zeros_like(total), where=total > 0)
    return tables
