"""What the seeds establish about the rows of a table, and what so many of them could have."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import CONFIDENCE, deviation_on_grid, paired_differences
from fusion_bench.metrics.significance import (
    detectable_difference,
    holm,
    paired_p_value,
    ranks,
    seeds_to_detect,
)


def add_comparisons(
    rows: Sequence[dict[str, Any]],
    accuracies: Mapping[str, Mapping[int, float]],
    over: str,
    resolution: float,
) -> None:
    """Adds to the rows what the seeds establish: p-values, ties with the best, ranks, and what they could find.

    Args:
      rows: of one setting.
      accuracies: of each strategy, by seed.
      over: the strategy that gains are over.
      resolution: of accuracies, 1 / n for n test examples.
    """
    shown = {row["strategy"]: accuracies[row["strategy"]] for row in rows}
    others = {name: by_seed for name, by_seed in shown.items() if name != over}
    corrected = holm(p_values(others, shown.get(over, {}), resolution))
    tests = sum(not math.isnan(p) for p in corrected.values())
    ranked = ranks(shown, resolution)
    fusions = {row["strategy"]: shown[row["strategy"]] for row in rows if row["family"] in MULTIMODAL}
    ties = _ties(fusions, resolution)
    for row in rows:
        name = row["strategy"]
        row["gain_p"] = corrected.get(name, math.nan)
        row["ties_best"] = name in ties
        if name in ranked:
            row |= dict(zip(("rank", "rank_low", "rank_high"), ranked[name], strict=True))
        differences = paired_differences(shown[name], shown.get(over, {}))
        if name != over and len(differences) > 1:
            deviation, n = deviation_on_grid(differences, resolution), len(differences)
            for suffix, count in (("", 1), ("_corrected", max(tests, 1))):
                row[f"detectable_gain{suffix}"] = detectable_difference(deviation, n, count)
                row[f"seeds_for_a_point{suffix}"] = seeds_to_detect(0.01, deviation, count)


def _ties(values: Mapping[str, Mapping[int, float]], resolution: float) -> set[str]:
    """Returns the best of those with the most seeds, and all that are not shown to differ from it.

    By tests that are not corrected: a correction over thirty strategies would let almost everything tie.
    """
    most = max(map(len, values.values()), default=0)
    if most < 2:
        return set()
    means = {n: statistics.fmean(by_seed.values()) for n, by_seed in values.items() if len(by_seed) == most}
    best = max(means, key=lambda name: means[name])
    against_best = p_values(
        {n: by_seed for n, by_seed in values.items() if by_seed}, values[best], resolution
    )
    return {name for name, p in against_best.items() if not p < 1 - CONFIDENCE}


def p_values(
    values: Mapping[str, Mapping[int, float]], other: Mapping[int, float], resolution: float
) -> dict[str, float]:
    """Returns the p-value of each strategy's difference from another one, by seed; not corrected."""
    return {name: paired_p_value(paired_differences(own, other), resolution) for name, own in values.items()}
