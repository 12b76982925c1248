"""Contributions of modalities from the accuracy of each coalition, the set of modalities that are present."""

import itertools
import math
from collections.abc import Mapping

Values = Mapping[frozenset[str], float]
"""Accuracy V(S) of every coalition S, the empty one included."""


def shapley_values(values: Values) -> dict[str, float]:
    """Returns φ_m = Σ_S |S|! (M - |S| - 1)! / M! (V(S ∪ m) - V(S)) over the coalitions S without m, by modality.

    They add up to V(all) - V(∅). Hu, Li and Zhou, "SHAPE", IJCAI 2022, arXiv:2205.00302.
    """
    names = sorted(max(values, key=len))
    found = dict.fromkeys(names, 0.0)
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
