"""The sentences around a table: what it is of, what its numbers mean, and what they show."""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from fusion_bench.metrics.intervals import CONFIDENCE, binomial_standard_error, t_quantile
from fusion_bench.report.comparisons import MULTIMODAL

MISSING = "–"
_TOLERANCE = 0.02
"""How near a matched figure comes to its target."""
_Z95 = 1.96
"""Half the width of the normal distribution's 95 % interval, in standard errors."""


def percent(mean: float, half_width: float = math.nan) -> str:
    """Returns a fraction in percent with its interval, if there is one: "78.31 ± 0.42"."""
    return _with_interval(f"{100 * mean:.2f}", mean, half_width)


def points(mean: float, half_width: float = math.nan) -> str:
    """Returns a difference of fractions in percentage points, with its sign: "+1.20 ± 0.42"."""
    return _with_interval(f"{100 * mean:+.2f}".replace("-", "−"), mean, half_width)


def _with_interval(text: str, mean: float, half_width: float) -> str:
    if math.isnan(mean):
        return MISSING
    return text if math.isnan(half_width) else f"{text} ± {100 * half_width:.2f}"


def heading(block: pd.DataFrame) -> str:
    """Returns what a block of the table is of, one line."""
    first = _rows(block)[0]
    own = first["captions"] == "its own"
    captions = "its own text" if own else f"{first['captions']} captions"
    if not pd.isna(first["bits"]):
        interaction = first["interaction_bits"]
        more = f" and {interaction:.3f} of interaction" if interaction > 0 else ""
        captions += f" ({first['bits']:.3f} bits{more})"
    parts = [
        f"{first['dataset']}, {captions}, {first['encoder']} encoders",
        f"{first['epochs']} epochs on {first['n_train']:,} examples, {first['n_test']:,} to test",
        _matched_to(block),
        first["differs"],
    ]
    return "; ".join(filter(None, parts))


_QUANTITIES = {"params": "parameters", "flops": "FLOPs per training example"}


def _matched_to(block: pd.DataFrame) -> str:
    first = _rows(block)[0]
    if not first["match"]:
        return ""
    return f"{_QUANTITIES[first['match']]} matched to the {first['match_target']:,.0f} of {first['match_to']}"


def is_off_target(row: Mapping[Hashable, Any]) -> bool:
    """Returns whether a multimodal strategy's figure is more than 2 % from what it was to be matched to."""
    return bool(row["match"]) and row["family"] in MULTIMODAL and abs(row["match_ratio"] - 1) > _TOLERANCE


def best_of(block: pd.DataFrame) -> str:
    """Returns the best unimodal strategy on validation; "" if none was run."""
    return max(block["gain_over"])


def _rows(block: pd.DataFrame, keep: Any = slice(None)) -> list[dict[Hashable, Any]]:
    return block.loc[keep].to_dict("records")


def notes(block: pd.DataFrame) -> list[str]:
    """Returns the sentences below a block of the table."""
    parts = (
        *(_interval, _gain, _bold, _detectable, _sampling, _reference, _ceiling),
        *(_own_baseline, _matching, _tuning, _failures, _rates, _provenance),
    )
    return [sentence for part in parts if (sentence := part(block))]


def _interval(block: pd.DataFrame) -> str:
    seeds = block.loc[block["n_seeds"] > 0, "n_seeds"]
    if seeds.empty:
        return "No run is complete."
    if seeds.max() == 1:
        return "One seed: there is no interval, and no difference here is established."
    usual = seeds.mode().max()
    others = _rows(block, (block["n_seeds"] > 0) & (block["n_seeds"] != usual))
    exceptions = "".join(f"; {row['strategy']}: n = {row['n_seeds']}" for row in others)
    errors = t_quantile(int(usual))
    meaning = f"(Student's t: {errors:.1f} standard errors), given the split and the captions"
    return f"±: 95 % interval over n = {usual} seeds {meaning}{exceptions}."


def _gain(block: pd.DataFrame) -> str:
    best = best_of(block)
    if not best:
        return "No gain is given: no unimodal run is complete."
    rivals = _rows(block, (block["family"] == "unimodal") & (block["baseline_kind"] == "only"))
    rivals = {row["strategy"]: row["validation_accuracy_mean"] for row in rivals}
    is_best = best in rivals and rivals[best] >= max(v for v in rivals.values() if not math.isnan(v))
    what = ", the best unimodal strategy on validation" if is_best else ""
    return f"Gain: over {best}{what}; percentage points, paired by seed."


def _bold(block: pd.DataFrame) -> str:
    if not any(block["ties_best"]) or max(block["n_seeds"]) < 2:
        return ""
    return (
        "Bold: the highest multimodal mean, and what is not shown to differ from it (paired t-test at 5 %, each by "
        "itself)."
    )


def _detectable(block: pd.DataFrame) -> str:
    """What so many seeds could have shown: the median over the multimodal rows."""
    rows = _rows(block, block["family"].isin(MULTIMODAL) & block["detectable_gain"].notna())
    if not rows:
        return ""
    gain, corrected = (
        100 * statistics.median(row[f"detectable_gain{suffix}"] for row in rows)
        for suffix in ("", "_corrected")
    )
    return (
        f"So many seeds find a true gain of {gain:.1f} points four times in five by a test of its own, of "
        f"{corrected:.1f} after Holm's correction. To find one point takes "
        f"{_seeds(rows, 'seeds_for_a_point')} seeds, or {_seeds(rows, 'seeds_for_a_point_corrected')} after the "
        "correction (medians over the multimodal rows)."
    )


def _seeds(rows: Sequence[Mapping[Hashable, Any]], column: str) -> str:
    """Returns the median number of seeds; empty cells stand for more than a thousand."""
    median = statistics.median(math.inf if pd.isna(row[column]) else row[column] for row in rows)
    return "more than 1,000" if math.isinf(median) else f"{math.ceil(median):,}"


def _sampling(block: pd.DataFrame) -> str:
    """The error that more seeds do not reduce: the test set is finite."""
    n_test = int(block["n_test"].iloc[0])
    accuracies = block.loc[block["family"] != "ceiling", "test_accuracy_mean"].dropna()
    if accuracies.empty:
        return ""
    errors = [100 * _Z95 * binomial_standard_error(accuracy, n_test) for accuracy in accuracies]
    low, high = f"{min(errors):.2f}", f"{max(errors):.2f}"
    size = low if low == high else f"{low} to {high}"
    return (
        f"The sampling error of the {n_test:,} test examples, the same ones in every row, comes on top: "
        f"± {size} points (95 %, binomial)."
    )


def _reference(block: pd.DataFrame) -> str:
    """Names what exceeds the Bayes reference, and says how that can be."""
    if "reference" not in set(block["family"]):
        return ""
    above = block["family"].isin(MULTIMODAL) & (block["reference_gain_mean"] > 0)
    names = ", ".join(
        f"{row['strategy']} ({points(row['reference_gain_mean'], row['reference_gain_ci95'])})"
        for row in _rows(block, above & (block["reference_p"] < 1 - CONFIDENCE))
    )
    meaning = (
        "Bayes reference: the best that a unimodal run's class probabilities and the exact channel allow."
    )
    if all(block["n_seeds"] < 2):
        return meaning
    if not names:
        return f"{meaning} No strategy is shown to be above it (paired t-test at 5 %, Holm-corrected)."
    return (
        f"{meaning} Above it (paired t-test at 5 %, Holm-corrected): {names}; a jointly trained model may "
        "learn a better encoder than the unimodal run that the reference uses, or read a third modality."
    )


def _ceiling(block: pd.DataFrame) -> str:
    if "ceiling" not in set(block["family"]):
        return ""
    return "Ceilings: exact, from the channel alone; without captions, that of a perfect classifier of the class."


def _own_baseline(block: pd.DataFrame) -> str:
    """A strategy whose encoder is of another kind is to be compared with that encoder on one modality."""
    sentences = []
    for row in _rows(block, block["family"].isin(MULTIMODAL) & (block["baseline_kind"] != "only")):
        if row["baseline"]:
            gain = points(row["baseline_gain_mean"], row["baseline_gain_ci95"])
            finding = f"{gain} points over {row['baseline']}"
        else:
            finding = f"not known, as MODALITY-{row['baseline_kind']} was not run"
        sentences.append(f"Gain of {row['strategy']} over its own joint encoder on one modality: {finding}.")
    return " ".join(sentences)


def _matching(block: pd.DataFrame) -> str:
    """Says which strategies could not be matched."""
    if not _rows(block)[0]["match"]:
        return ""
    off = [
        f"{row['strategy']} ({points(row['match_ratio'] - 1)} %)"
        for row in _rows(block)
        if is_off_target(row)
    ]
    exceptions = (
        f", but for {', '.join(off)}, marked *, which have no size to choose or none that comes nearer"
        if off
        else ""
    )
    near = f"within {100 * _TOLERANCE:.0f} %"
    return f"Matched {near} by the size of each joint part{exceptions}. Baselines are as they are."


def _tuning(block: pd.DataFrame) -> str:
    tried = _rows(block)[0]["tune"]
    if not tried:
        return ""
    chosen = [
        f"{row['strategy']} {row['learning_rate']:g} and {row['weight_decay']:g}"
        for row in _rows(block, block["learning_rate"].notna())
    ]
    return (
        f"Tuned: learning rate and weight decay, the best of {tried} on validation, by a seed of its own: "
        f"{'; '.join(chosen)}."
    )


def _failures(block: pd.DataFrame) -> str:
    failed = [
        f"{row['strategy']}, {' '.join(row['failures'].split())}"
        for row in _rows(block, block["n_failed"] > 0)
    ]
    return f"Failed: {'; '.join(failed)}." if failed else ""


def _rates(block: pd.DataFrame) -> str:
    if not any(block["train_examples_per_s"].notna()):
        return ""
    line = "Examples/s: median of a short timed pass of its own; compilation is apart."
    measured = block["train_examples_per_s"].notna()
    if any(block.loc[measured, "compile_s"].isna()):
        line += " It is not told where programs were read from an earlier study's cache."
    return line


def _provenance(block: pd.DataFrame) -> str:
    first = _rows(block)[0]
    parts = (
        first["device"],
        f"fusion_bench {first['version']}",
        first["commit"] and f"commit {first['commit']}",
    )
    made = f"Made on {', '.join(filter(None, parts))}."
    return f"{made} Data: {first['description']}." if first["description"] else made
