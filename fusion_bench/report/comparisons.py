"""What the seeds establish about the rows of a table, and what so many of them could have."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fusion_bench.evaluation.intervals import CONFIDENCE
from fusion_bench.evaluation.significance import (
    detectable_difference,
    holm,
    paired_p_value,
    ranks,
    seeds_to_detect,
)

MULTIMODAL = ("early", "intermediate", "tensor", "late")


def add_comparisons(
    rows: Sequence[dict[str, Any]], accuracies: Mapping[str, Mapping[int, float]], over: str
) -> None:
    """Adds to the rows what the seeds establish: p-values, ties with the best, ranks, and what they could find."""
    shown = {row["strategy"]: accuracies[row["strategy"]] for row in rows}
    p_values = holm(_p_values(shown, over))
    ranked = ranks(shown)
    fusions = {row["strategy"]: shown[row["strategy"]] for row in rows if row["family"] in MULTIMODAL}
    means = {name: statistics.fmean(by_seed.values()) for name, by_seed in fusions.items() if by_seed}
    best = max(means, key=lambda name: means[name], default="")
    # Uncorrected: a correction over thirty strategies would let almost everything tie.
    against_best = _p_values(fusions, best)
    for row in rows:
        name = row["strategy"]
        row["gain_p"] = p_values.get(name, math.nan)
        row["ties_best"] = bool(best) and (name == best or against_best.get(name, 0.0) >= 1 - CONFIDENCE)
        if name in ranked:
            row |= dict(zip(("rank", "rank_low", "rank_high"), ranked[name], strict=True))
        differences = _differences(shown[name], shown.get(over, {}))
        if name != over and len(differences) > 1:
            deviation = statistics.stdev(differences)
            row["detectable_gain"] = detectable_difference(deviation, len(differences))
            row["seeds_for_a_point"] = seeds_to_detect(0.01, deviation)


def _p_values(values: Mapping[str, Mapping[int, float]], over: str) -> dict[str, float]:
    """Returns the p-value of each one's difference from one of them."""
    other = values.get(over, {})
    return {n: paired_p_value(_differences(own, other)) for n, own in values.items() if n != over}


def _differences(values: Mapping[int, float], others: Mapping[int, float]) -> list[float]:
    return [values[seed] - others[seed] for seed in sorted(values.keys() & others.keys())]
