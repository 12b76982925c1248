"""Changes of each strategy between two studies."""

from collections.abc import Mapping

from fusion_bench.metrics.intervals import CONFIDENCE, paired_differences, paired_interval
from fusion_bench.metrics.significance import holm, paired_p_value
from fusion_bench.report.text import points

BySeed = Mapping[str, Mapping[int, float]]
"""A fraction for each strategy, by seed."""


def listed_changes(before: BySeed, after: BySeed, n_test: int) -> str:
    """Returns the strategies of `after` that differ significantly from `before`, with the change, paired by seed."""
    raw = {name: paired_p_value(paired_differences(after[name], before[name]), 1 / n_test) for name in after}
    changed = [
        f"{name} {points(*paired_interval(after[name], before[name], 1 / n_test))}"
        for name, p in holm(raw).items()
        if p < 1 - CONFIDENCE
    ]
    listed = f"{', '.join(changed)} points" if changed else "none"
    return f"{listed} (paired t-tests over seeds, Holm-corrected)"
