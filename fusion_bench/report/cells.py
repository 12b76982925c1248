"""Values of a row of the table, and numbers as text, that take more than a line; `columns` names them."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from fusion_bench.metrics.intervals import Interval, t_interval, wilson_interval
from fusion_bench.metrics.significance import bootstrap_interval
from fusion_bench.report.block import Row
from fusion_bench.report.text import MISSING, optional, percent


def decimal(mean: float, half_width: float) -> str:
    """Returns a mean with its interval, to three places: "0.412 ± 0.013"."""
    return optional(mean, ".3f") + ("" if math.isnan(half_width) else f" ± {half_width:.3f}")


def rank_text(rank: Any, low: Any, high: Any) -> str:
    """Returns a rank with the ends of its confidence interval: "2 (1–4)"."""
    return MISSING if pd.isna(rank) else f"{rank} ({low}–{high})"


def p_text(p: float) -> str:
    """Returns a p-value to three places, or "< 0.001"."""
    return "< 0.001" if p < 0.001 else optional(p, ".3f")


def scaled(form: str, scale: float = 1.0) -> Callable[[float], str]:
    """Returns the text of a number times a factor, in a format."""
    return lambda value: optional(scale * value, form)


def accuracy(row: Row) -> Interval:
    """Returns the mean test accuracy with its interval over seeds; a ceiling has none."""
    return t_interval([*row.accuracies.values()]) if row.runs else Interval(row.ceiling, math.nan)


def validation_accuracy(row: Row) -> float:
    """Returns the mean validation accuracy."""
    found = (run.metrics.get("validation_accuracy") for run in row.complete)
    return t_interval([value for value in found if value is not None]).mean


def match_ratio(row: Row) -> float:
    """Returns the matched quantity over its target; NaN where nothing was matched."""
    quantity, target = (row.block.setting.get(f"match.{key}") for key in ("quantity", "target"))
    return row.cost("params" if quantity == "params" else "train_flops") / (target or math.nan)


def augmented(row: Row) -> str:
    """Returns the random transformations of the training data, "image: flip and translate"."""
    inputs = row.block.data.get("inputs", {})
    chosen = {name: " and ".join(fact.get("augment") or ()) for name, fact in inputs.items()}
    return ", ".join(f"{name}: {transforms}" for name, transforms in chosen.items() if transforms)


def damage(row: Row) -> str:
    """Returns how the training data were damaged, and the exact ceilings that follow, in sentences."""
    data, sentences = row.block.data, []
    if probability := row.block.setting.get("data.misalign"):
        moved = " and ".join(data["misaligned_modalities"])
        sentences.append(
            f"Misaligned in training: with probability {probability:g} an example has the {moved} of another one, "
            "independently of its label; test pairs are aligned."
        )
        if known := data.get("misaligned_ceilings"):
            learned, best = (
                [percent(known[f"{name}{pairs}"]) for name in ("text_only", "with_class")]
                for pairs in ("", "_misaligned")
            )
            sentences.append(
                f"The decision that is optimal on such pairs is right in {learned[0]} % of aligned pairs from {moved} "
                f"alone, and in {learned[1]} % from {moved} and the class. On misaligned pairs the best possible "
                f"accuracies are {best[0]} % and {best[1]} %."
            )
    if probability := row.block.setting.get("data.missing"):
        sentences.append(
            f"Missing in training: each modality of an example with probability {probability:g}, but one is kept; test "
            "examples are complete."
        )
        if known := data.get("missing_ceiling"):
            rate = f"On examples whose modalities are missing with probability {probability:g}"
            sentences.append(f"{rate}, the best possible accuracy is {percent(known)} %.")
    return " ".join(sentences)


def failures(row: Row) -> str:
    """Returns the reason of each failed run, "seed 2: the loss is nan"."""
    costs = row.block.costs.get(row.name)
    failed = {f"seed {run.seed}": run for run in row.runs} | ({"costs": costs} if costs else {})
    return "; ".join(f"{name}: {run.reason}" for name, run in failed.items() if run.status == "failed")


def sampling(row: Row) -> float:
    """Returns half the bootstrap interval of the test set's sampling.

    Where every answer is right, or wrong, draws do not differ, and it is the length of Wilson's interval.
    """
    if not row.tests:
        return math.nan
    mean, half_width = bootstrap_interval(row.correct)
    low, high = wilson_interval(mean, len(row.correct))
    return half_width if 0 < mean < 1 else high - low


def gain_sampling(row: Row) -> float:
    """Returns half the bootstrap interval of the test set's sampling of the gain."""
    over = row.block.rows.get(row.block.best, row)
    if over is row or not (row.tests and over.tests):
        return math.nan
    return bootstrap_interval(row.correct - over.correct).half_width


def cores(row: Row) -> str:
    """Returns how many cores of a CPU trained the row's runs, "1" or "1 and 2"; empty elsewhere."""
    trained = [run.environment for run in row.complete if "train_seconds" in run.cost]
    counts = {facts["cpu_usable"] for facts in trained if facts.get("platform") == "cpu" and facts.get("cpu_usable")}
    return " and ".join(map(str, sorted(counts)))
