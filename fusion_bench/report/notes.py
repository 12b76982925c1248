"""The sentences around a table: its heading, the meaning of its numbers, and its finding."""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.intervals import CONFIDENCE, t_quantile, wilson_interval
from fusion_bench.report.text import percent, points

Row = Mapping[Hashable, Any]
Rows = Sequence[Row]
_TOLERANCE = 0.02
"""Relative distance of a matched quantity from its target."""
_QUANTITIES = {"params": "parameters", "flops": "FLOPs per training example"}


def heading(block: pd.DataFrame) -> str:
    """Returns the heading of a block of the table: data, encoders and budget, in one line."""
    first: Row = block.iloc[0].to_dict()
    captions = "no captions" if first["captions"] == "none" else f"{first['captions']} captions"
    if not pd.isna(first["bits"]):
        interaction = first["interaction_bits"]
        more = f" and {interaction:.3f} of interaction" if interaction > 0 else ""
        captions += f" ({first['bits']:.3f} bits{more})"
    quantity = _QUANTITIES.get(first["match"], "")
    parts = [
        f"{first['dataset']}, {captions}, {first['encoder']} encoders",
        f"{first['epochs']} epoch{'s' * (first['epochs'] != 1)} on {first['n_train']:,} examples, "
        f"{first['n_test']:,} to test",
        first["misalign"] and f"training pairs misaligned with probability {first['misalign']:g}",
        first["missing"] and f"modalities missing in training with probability {first['missing']:g}",
        quantity and f"{quantity} matched to the {first['match_target']:,.0f} of {first['match_to']}",
        first["differs"],
    ]
    return "; ".join(filter(None, parts))


def is_off_target(row: Row) -> bool:
    """Returns whether a multimodal strategy's matched quantity is more than 2 % from its target."""
    return bool(row["match"]) and row["family"] in MULTIMODAL and abs(row["match_ratio"] - 1) > _TOLERANCE


def best_of(block: pd.DataFrame) -> str:
    """Returns the strategy that gains are measured against; "" if there is none."""
    return max(block["gain_over"])


def headline(block: pd.DataFrame) -> str:
    """Returns the finding in one line: the best strategy, its gain, and those not significantly different from it."""
    rows = block.loc[block["family"].isin(MULTIMODAL) & block["test_accuracy_mean"].notna()]
    if rows.empty:
        return "No multimodal strategy has a result."
    rows = rows.loc[rows["n_seeds"] == rows["n_seeds"].max()]  # others cannot be compared by seed
    best = rows.loc[rows["test_accuracy_mean"].idxmax()]
    accuracy = percent(best["test_accuracy_mean"], best["test_accuracy_ci95"])
    line = f"{best['strategy']} has the highest mean test accuracy, {accuracy} %"
    if best["gain_over"] and not pd.isna(best["gain_mean"]):
        line += f", {points(best['gain_mean'], best['gain_ci95'])} points over {best['gain_over']}"
    if best["n_seeds"] < 2:
        return f"{line}. With one seed no difference can be tested."
    if len(rows) < 2:
        return f"{line}."
    level = rows.loc[rows["ties_best"] & (rows["strategy"] != best["strategy"]), "strategy"]
    tests = "(paired t-tests, α = 0.05, uncorrected)"
    if level.empty:
        return f"{line}. All other multimodal strategies are significantly below it {tests}."
    return f"{line}. Not significantly different from it {tests}: {', '.join(level)}."


def notes(block: pd.DataFrame) -> list[str]:
    """Returns the sentences below a block of the table."""
    rows = block.to_dict("records")
    sentences = [_interval(rows), _gain(rows)]
    if any(block["ties_best"]):
        sentences.append(
            "Bold: the best multimodal mean and all strategies not significantly different from it (paired t-test, "
            "α = 0.05, uncorrected)."
        )
    sentences += [_power(rows), _sampling(rows), _reference(rows)]
    if "ceiling" in {*block["family"]}:
        sentences.append(
            "Ceilings: the best possible accuracy from one modality alone, computed exactly from the caption channel; "
            "without captions, that of a perfect classifier of the class."
        )
    sentences += [_own_baseline(rows), _matching(rows), _tuning(rows), _failures(rows), _rates(rows)]
    sentences += [rows[0]["damage"], rows[0]["data_notes"], _provenance(rows)]
    return [*filter(None, sentences)]


def _interval(rows: Rows) -> str:
    counts = [row["n_seeds"] for row in rows if row["n_seeds"] > 0]
    if not counts:
        return "No run is complete."
    if max(counts) == 1:
        return "One seed: there are no intervals, and no difference can be tested."
    usual = _usual(rows)
    exceptions = [f"; {row['strategy']}: n = {row['n_seeds']}" for row in rows if row["n_seeds"] not in (0, usual)]
    return (
        f"±: 95 % interval over n = {usual} seeds (Student's t: {t_quantile(usual):.1f} standard errors), given the "
        f"split and the captions{''.join(exceptions)}."
    )


def _usual(rows: Rows) -> int:
    """Returns the number of seeds of most rows."""
    return int(max(statistics.multimode(row["n_seeds"] for row in rows if row["n_seeds"] > 0)))


def _gain(rows: Rows) -> str:
    over = max(row["gain_over"] for row in rows)
    if not over:
        return "No gain is given: no unimodal run is complete."
    rivals = [row for row in rows if row["family"] == "unimodal" and row["baseline_kind"] == "only"]
    accuracies = {row["strategy"]: row["validation_accuracy_mean"] for row in rivals}
    known = [accuracy for accuracy in accuracies.values() if not math.isnan(accuracy)]
    is_best = bool(known) and accuracies.get(over) == max(known)
    choice = ", the best unimodal strategy on validation" if is_best else ""
    return f"Gain: over {over}{choice}; percentage points, paired by seed."


def _power(rows: Rows) -> str:
    known = [row for row in rows if row["family"] in MULTIMODAL and not math.isnan(row["detectable_gain"])]
    if not known:
        return ""
    ends = ("", "_corrected")
    gain, corrected = (100 * statistics.median(row[f"detectable_gain{end}"] for row in known) for end in ends)
    seeds, corrected_seeds = (_seeds(known, f"seeds_for_a_point{end}") for end in ends)
    return (
        f"With n = {_usual(rows)} seeds a paired t-test detects a true gain of {gain:.1f} points with 80 % power "
        f"({corrected:.1f} after Holm's correction); to detect one point takes {seeds} seeds ({corrected_seeds} after "
        "the correction). Medians over the multimodal rows."
    )


def _seeds(rows: Rows, key: str) -> str:
    """Returns the median number of seeds; empty cells stand for more than a thousand."""
    median = statistics.median(math.inf if pd.isna(row[key]) else row[key] for row in rows)
    return "more than 1,000" if math.isinf(median) else f"{math.ceil(median):,}"


def _sampling(rows: Rows) -> str:
    n_test = rows[0]["n_test"]
    known = [row["test_accuracy_mean"] for row in rows if row["family"] != "ceiling"]
    accuracies = [accuracy for accuracy in known if not math.isnan(accuracy)]
    if not accuracies:
        return ""
    intervals = [
        f"{percent(low)} to {percent(high)} % for {percent(accuracy)} %"
        for accuracy in dict.fromkeys((min(accuracies), max(accuracies)))
        for low, high in [wilson_interval(accuracy, n_test)]
    ]
    return (
        f"The intervals leave out the sampling error of the {n_test:,} test examples, which is common to all rows; its "
        f"95 % interval (Wilson) is {' and '.join(intervals)}."
    )


def _reference(rows: Rows) -> str:
    if all(row["family"] != "reference" for row in rows):
        return ""
    names = ", ".join(
        f"{row['strategy']} ({points(row['reference_gain_mean'], row['reference_gain_ci95'])})"
        for row in rows
        if row["reference_gain_mean"] > 0 and row["reference_p"] < 1 - CONFIDENCE
    )
    meaning = (
        "Bayes reference: the best possible use of one unimodal model and the exact caption channel, if image and "
        "caption are independent given the class, which words of people need not be."
    )
    if all(row["n_seeds"] < 2 for row in rows):
        return meaning
    if not names:
        return f"{meaning} No strategy is significantly above it (paired t-test, α = 0.05, Holm-corrected)."
    return (
        f"{meaning} Significantly above it (paired t-test, α = 0.05, Holm-corrected): {names}. A jointly trained model "
        "may learn a better encoder than that unimodal model, or read a third modality."
    )


def _own_baseline(rows: Rows) -> str:
    """Compares a strategy whose encoder is of another kind with that encoder on one modality."""
    sentences = []
    for row in rows:
        if row["family"] in MULTIMODAL and row["baseline_kind"] != "only":
            gain = f"{points(row['baseline_gain_mean'], row['baseline_gain_ci95'])} points over {row['baseline']}"
            found = gain if row["baseline"] else f"not known, as MODALITY-{row['baseline_kind']} was not run"
            sentences.append(f"Gain of {row['strategy']} over the same encoder on one modality: {found}.")
    return " ".join(sentences)


def _matching(rows: Rows) -> str:
    if not rows[0]["match"]:
        return ""
    off = [f"{row['strategy']} ({points(row['match_ratio'] - 1)} %)" for row in rows if is_off_target(row)]
    exceptions = f" Exceptions, marked *, have no size option or no closer size: {', '.join(off)}." if off else ""
    near = f"within {100 * _TOLERANCE:.0f} %"
    return f"Matched {near} by the size of each fusion module.{exceptions} Unimodal baselines are not resized."


def _tuning(rows: Rows) -> str:
    if not rows[0]["tune"]:
        return ""
    chosen = "; ".join(
        f"{row['strategy']} {row['learning_rate']:g} and {row['weight_decay']:g}"
        for row in rows
        if not math.isnan(row["learning_rate"])
    )
    return (
        f"Tuned: learning rate and weight decay, the best of {rows[0]['tune']} trials on validation with a separate "
        f"seed: {chosen}."
    )


def _failures(rows: Rows) -> str:
    failed = [f"{row['strategy']}, {' '.join(row['failures'].split())}" for row in rows if row["failures"]]
    return f"Failed: {'; '.join(failed)}." if failed else ""


def _rates(rows: Rows) -> str:
    measured = [row for row in rows if not math.isnan(row["train_examples_per_s"])]
    if not measured:
        return ""
    cached = " Compile time is missing where programs were read from the cache of an earlier study."
    is_cached = any(math.isnan(row["compile_s"]) for row in measured)
    return "Examples/s: median of short timed passes, without compilation." + cached * is_cached


def _provenance(rows: Rows) -> str:
    first = rows[0]
    commit = first["commit"] and f"commit {first['commit']}"
    plugins = first["plugins"] and f"with {first['plugins']}"
    made = ", ".join(filter(None, (first["device"], f"fusion_bench {first['version']}", commit, plugins)))
    data = f" Data: {first['description']}." if first["description"] else ""
    data += f" Augmented in training: {first['augmented']}." if first["augmented"] else ""
    counts = sorted({int(count) for row in rows for count in row["cores"].split(" and ") if count})
    number = " or ".join(map(str, counts))
    cores = f" Each run was trained on {number} core{'s' * (counts != [1])}." if counts else ""
    return f"Made on {made}.{cores}{data}"
