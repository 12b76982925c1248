"""Contributions of modalities from the accuracy of each coalition, the set of modalities that are present."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

Values = Mapping[frozenset[str], Any]
"""Value V(S) of every coalition S, the empty one included: an accuracy, or an array."""


def shapley_values(values: Values) -> dict[str, Any]:
    """Returns φ_m = Σ_S |S|! (M - |S| - 1)! / M! (V(S ∪ m) - V(S)) over the coalitions S without m, by modality.

    They add up to V(all) - V(∅). Hu, Li and Zhou, "SHAPE", IJCAI 2022, arXiv:2205.00302.
    """
    names = sorted(max(values, key=len))
    found: dict[str, Any] = dict.fromkeys(names, 0.0)
    for name in names:
        others = [other for other in names if other != name]
        for size in range(len(names)):
            weight = math.factorial(size) * math.factorial(len(names) - size - 1) / math.factorial(len(names))
            for coalition in map(frozenset, itertools.combinations(others, size)):
                found[name] += weight * (values[coalition | {name}] - values[coalition])
    return found


def cooperation(values: Values) -> float:
    """Returns V(all) - V(∅) - Σ_m (V(m) - V(∅)): what the modalities gain together beyond each alone.

    SHAPE's cooperation of all modalities; negative where they repeat each other.
    """
    empty, together = values[frozenset()], max(values, key=len)
    return values[together] - empty - sum(values[frozenset({name})] - empty for name in together)


def presence(names: Iterable[str], missing: float) -> dict[frozenset[str], float]:
    """Returns the probability of each coalition where every modality is missing independently, but one is kept.

    P(S) = (1 - p)^|S| p^(M - |S|), where the p^M of the empty coalition is divided among those of one modality. So the
    expected accuracy on such examples is Σ_S P(S) V(S).
    """
    names = sorted(names)
    total, found = len(names), {}
    for size in range(1, total + 1):
        for coalition in itertools.combinations(names, size):
            share = missing**total / total if size == 1 else 0.0
            found[frozenset(coalition)] = (1 - missing) ** size * missing ** (total - size) + share
    return found
