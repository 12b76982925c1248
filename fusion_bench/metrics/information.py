"""Information in bits: mutual information, conditional or not, and its partial decomposition for two sources.

The decomposition is that of Bertschinger et al., "Quantifying Unique Information", Entropy 2014 (BROJA). Over all
tables Q with the marginals Q(x1, t) = P(x1, t) and Q(x2, t) = P(x2, t), let I* = min_Q I_Q(T; X1, X2). Then

    redundant   R  = I(T; X1) + I(T; X2) - I*
    unique      U1 = I* - I(T; X2),  U2 = I* - I(T; X1)
    synergistic S  = I_P(T; X1, X2) - I*
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

MAX_ITERATIONS = 200_000
_RELAXATION = 1.5  # 1: plain alternating projections; it diverges from 2 on
_EVERY = 10  # iterations from one test of the gap to the next
_AT_ONCE = 100  # permutations that are drawn together
_ROUNDING = 1e-12  # bits by which equal values may differ


class Decomposition(NamedTuple):
    """What two sources tell of a target, in bits; the four parts add up to I(T; X1, X2)."""

    redundant: float
    unique_first: float
    unique_second: float
    synergistic: float


class Dependence(NamedTuple):
    """The dependence of two variables given a third, in a sample.

    Attributes:
      bits: I(A; B | C) of the frequencies in the sample. It is above 0 even where A and B are independent given C.
      expected: its mean over permutations, where they are.
      p_value: of the hypothesis that A and B are independent given C.
    """

    bits: float
    expected: float
    p_value: float


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


def conditional_mutual_information(
    counts: Int[np.ndarray, "*sample first second given"],
) -> Float64[np.ndarray, "*sample"]:
    """Returns I(A; B | C) = Σ n(a, b, c) / N log2 (n(a, b, c) n(c) / (n(a, c) n(b, c))) of frequencies, in bits.

    Args:
      counts: n(a, b, c), of one sample or of several.
    """
    total = counts.sum((-3, -2, -1))
    first, second, given = (counts.sum(axis, keepdims=True) for axis in (-2, -3, (-3, -2)))
    logarithms = (np.log2(np.maximum(part, 1)) for part in (counts, given, first, second))  # of 0 only where counts are
    both, of_given, of_first, of_second = logarithms
    return np.asarray((counts * (both + of_given - of_first - of_second)).sum((-3, -2, -1)) / np.maximum(total, 1))


def conditional_independence(
    first: Int[np.ndarray, "*variable example"],
    second: Int[np.ndarray, " example"],
    given: Int[np.ndarray, " example"],
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> Dependence:
    """Tests by permutations whether A and B are independent given C, which are discrete.

    B is permuted among the examples of each value of C, which keeps all n(a, c) and n(b, c). With I the value of the
    sample and I_1 .. I_n those of permutations, p = (1 + #{i: I_i >= I}) / (1 + n): exact for any number of examples,
    and 1 / (1 + n) at least. Of several variables A, such as the predictions with several seeds, I is the mean, and all
    meet the same permutations.

    Args:
      first: A, or several, from 0 on.
      second: B, from 0 on.
      given: C, from 0 on.
      permutations: n, their number.
      seed: of their random numbers.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(given, kind="stable")
    variables = np.atleast_2d(first)[:, order].astype(np.int64)
    b, c = (values[order].astype(np.int64) for values in (second, given))
    sizes = tuple(int(values.max(initial=0)) + 1 for values in (variables, b, c))

    def bits_with(permuted: Int[np.ndarray, "permutation example"]) -> Float64[np.ndarray, " permutation"]:
        bits = np.zeros(len(permuted))
        for a in variables:
            cells = (np.arange(len(permuted))[:, None] * sizes[0] + a) * sizes[1] + permuted
            counted = np.bincount((cells * sizes[2] + c).ravel(), minlength=len(permuted) * math.prod(sizes))
            bits += conditional_mutual_information(counted.reshape(len(permuted), *sizes))
        return bits / len(variables)

    found, drawn = bits_with(b[None])[0], []
    for start in range(0, permutations, _AT_ONCE):
        keys = c + rng.random((min(_AT_ONCE, permutations - start), len(c)))  # sorts within each value of C alone
        drawn.append(bits_with(b[keys.argsort(axis=1)]))
    bits = np.concatenate([*drawn, np.zeros(0)])
    p_value = (1 + (bits >= found - _ROUNDING).sum()) / (1 + permutations)
    return Dependence(float(found), float(bits.mean()) if permutations else math.nan, float(p_value))


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
