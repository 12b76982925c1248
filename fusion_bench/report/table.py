"""The table of a study as a frame: one row a strategy, one block a setting."""

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fusion_bench.errors import unknown_name
from fusion_bench.metrics.classification import METRICS
from fusion_bench.metrics.intervals import paired_interval, t_interval
from fusion_bench.metrics.significance import bootstrap_difference, bootstrap_interval, holm
from fusion_bench.report.comparisons import MULTIMODAL, add_comparisons, p_values
from fusion_bench.store import Run, Store, setting

FAMILIES = ("unimodal", "early", "intermediate", "tensor", "late", "reference", "ceiling")
"""In the order of the rows."""
COLUMNS = (
    *("strategy", "family", "n_seeds", "n_failed", "params", "test_accuracy_mean", "test_accuracy_ci95"),
    *("gain_mean", "gain_ci95", "gain_p", "gain_over", "ties_best", "rank", "rank_low", "rank_high"),
    *("detectable_gain", "detectable_gain_corrected", "seeds_for_a_point", "seeds_for_a_point_corrected"),
    *("baseline_kind", "baseline", "baseline_gain_mean", "baseline_gain_ci95"),
    *("reference_gain_mean", "reference_gain_ci95", "reference_p", "validation_accuracy_mean"),
    *(
        "train_examples_per_s",
        "inference_examples_per_s",
        "latency_s",
        "compile_s",
        "train_flops",
        "inference_flops",
    ),
    "train_seconds",
    *("match", "match_to", "match_target", "match_ratio", "tune", "learning_rate", "weight_decay"),
    *("dataset", "description", "captions", "bits", "interaction_bits", "encoder", "epochs"),
    *("n_train", "n_validation", "n_test", "device", "version", "commit"),
    *("setting", "differs", "failures"),
)
DETAILS = (
    *(f"{name}_{part}" for name in METRICS for part in ("mean", "ci95")),
    *("sampling_ci95", "gain_sampling_ci95"),
)
"""Further columns, which are computed from the logits of every run."""
_COUNTS = (
    *("n_seeds", "n_failed", "params", "epochs", "n_train", "n_validation", "n_test"),
    *("rank", "rank_low", "rank_high", "seeds_for_a_point", "seeds_for_a_point_corrected"),
)
_COSTS = (
    *(
        "train_examples_per_s",
        "inference_examples_per_s",
        "latency_s",
        "compile_s",
        "train_flops",
        "inference_flops",
    ),
    "train_seconds",
)
_IN_HEADING = {
    *("data.captions", "data.train_size", "data.test_size", "model.encoder", "training.epochs"),
    *("match.quantity", "match.to", "match.target"),
}


def blocks(store: Store) -> dict[str, list[Run]]:
    """Returns the runs of each setting, by a digest of all that they share.

    Models that are trained on the class instead of the label only serve the reference, and are left out. An operator
    whose code has changed is trained anew; what its old code gave is left out.
    """
    latest: dict[str, dict[tuple[str, int], Run]] = {}
    for run in store.runs():
        if run.identity.get("target", "label") == "label":
            block, key = latest.setdefault(_digest(setting(run)), {}), (run.strategy, run.seed)
            block[key] = max(block.get(key, run), run, key=lambda run: run.environment.get("started", ""))
    return {digest: list(block.values()) for digest, block in latest.items()}


def table(store: Store, *, against: str = "", details: bool = False) -> pd.DataFrame:
    """Returns the table of all runs: a row for each strategy of each setting, sorted by family.

    Accuracies and gains are fractions, not percent; an interval is half its width, NaN for fewer than two
    seeds. The columns that do not say themselves what they are:

    - gain_*: test accuracy over that of the best unimodal strategy, `gain_over`, paired by seed; NaN for
      that one itself. The best is the one with the highest mean accuracy on validation, among those with a
      modality's own encoder. gain_p: of the paired t-test, Holm-corrected over the rows of the block.
    - ties_best: whether it is the multimodal strategy with the highest mean, or not shown to differ from that one by a
      paired t-test at 5 %, each test by itself.
    - rank_*: by mean accuracy among what is trained, with the lowest and highest rank that the seeds allow for.
    - detectable_gain: the true gain that so many seeds find four times in five by a test of its own at 5 %, and
      detectable_gain_corrected after Holm's correction, as the first of the rows; seeds_for_a_point and
      seeds_for_a_point_corrected: the seeds that find one percentage point; empty where it would take over a thousand.
    - baseline_*: the same over the best unimodal strategy of the row's own kind, `baseline`, where that is
      another kind: `baseline_kind` "token-only" for a joint transformer. Empty if none of that kind was run.
    - reference_gain_*: the same over the Bayes reference; reference_p: Holm-corrected over the multimodal rows.
    - train_examples_per_s, inference_examples_per_s, latency_s, compile_s, train_seconds: medians over seeds; latency
      of one example. train_flops, inference_flops: floating-point operations per example.
    - match, match_to, match_target: "params" or "flops" where widths were chosen to bring that figure to the target,
      which is that of `match_to`; match_ratio: how near the strategy came.
    - tune: the number of settings that were tried for each strategy; learning_rate, weight_decay: the chosen ones.
    - setting: a digest of all that the rows of one block share; differs: what tells it from other blocks.
    - failures: the failed seeds with their reasons.

    The family "reference" is the Bayes reference; "ceiling" rows are exact and have no seeds.

    Args:
      store: its runs.
      against: the strategy that gains are over; the best unimodal one if empty.
      details: add the columns `DETAILS`, computed from the stored logits: every metric, and half the widths of the
        intervals of the test set's sampling, for the accuracy and for the gain.

    Raises:
      UserError: no run is of `against`, or a run's logits cannot be read.
    """
    by_setting = blocks(store)
    settings = {digest: _flat(setting(runs[0])) for digest, runs in by_setting.items()}
    varied = _varied(settings.values())
    known = {run.strategy for runs in by_setting.values() for run in runs}
    if against and against not in known:
        raise unknown_name("strategy", against, sorted(known))
    rows = []
    for digest, runs in by_setting.items():
        facts = {"setting": digest, **_facts(runs, settings[digest], varied)}
        found = _strategy_rows(runs, against)
        if details:
            found = [row | detail(store, runs, row["strategy"], row["gain_over"]) for row in found]
        rows += [{**facts, **row} for row in (*found, *_ceiling_rows(runs[0]))]
    frame = pd.DataFrame(rows, columns=pd.Index([*COLUMNS, *DETAILS] if details else COLUMNS))
    frame = frame.astype(dict.fromkeys(_COUNTS, "Int64"))
    order = frame["family"].map(FAMILIES.index)
    blockwise = ["dataset", "captions", "encoder", "epochs", "setting", "order", "baseline_kind", "strategy"]
    frame = frame.assign(order=order).sort_values(blockwise, kind="stable", ignore_index=True)
    return frame.drop(columns="order")


def best_unimodal(runs: Iterable[Run], kind: str = "only") -> str:
    """Returns the strategy "MODALITY-KIND" with the highest mean validation accuracy; "" if there is none.

    Args:
      runs: of one setting.
      kind: "only", or "token-only" for joint transformers on one modality.
    """
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        if run.status == "complete" and run.modality is not None and _kind(run) == kind:
            accuracies.setdefault(run.strategy, []).append(run.metrics["validation_accuracy"])
    return max(accuracies, key=lambda strategy: statistics.fmean(accuracies[strategy]), default="")


def _kind(run: Run) -> str:
    """The strategies that a run is measured against; for a unimodal one, its own kind."""
    if run.modality is None:
        return run.baseline
    return run.strategy.partition(":")[0].removeprefix(f"{run.modality}-")


def detail(store: Store, runs: Iterable[Run], strategy: str, other: str = "") -> dict[str, float]:
    """Returns the columns `DETAILS` of one strategy, from the logits of its runs and of those of what it gains over.

    Raises:
      UserError: they cannot be read.
    """
    tests = _test_logits(store, runs, strategy)
    if not tests:
        return {}
    found: dict[str, float] = {}
    for name, metric in METRICS.items():
        found[f"{name}_mean"], found[f"{name}_ci95"] = t_interval([metric(*test) for test in tests])
    correct = _correct(tests)
    found["sampling_ci95"] = bootstrap_interval(correct).half_width
    others = _test_logits(store, runs, other) if other != strategy else []
    if others:
        found["gain_sampling_ci95"] = bootstrap_difference(correct, _correct(others)).half_width
    return found


def _test_logits(store: Store, runs: Iterable[Run], strategy: str) -> list[tuple[np.ndarray, np.ndarray]]:
    stored = [store.predictions(r.id) for r in runs if r.strategy == strategy and r.status == "complete"]
    return [(predictions["test_logits"], predictions["test_labels"]) for predictions in stored]


def _correct(tests: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns which seed had which image right."""
    return np.stack([logits.argmax(axis=1) == labels for logits, labels in tests])


def _strategy_rows(runs: Sequence[Run], against: str) -> list[dict[str, Any]]:
    by_strategy: dict[str, list[Run]] = {}
    for run in runs:
        by_strategy.setdefault(run.strategy, []).append(run)
    accuracies = {strategy: _test_accuracies(group) for strategy, group in by_strategy.items()}
    reference = next((run.strategy for run in runs if run.family == "reference"), "")
    best = against if against in by_strategy else best_unimodal(runs)
    resolution = 1 / runs[0].data["n_test"]
    rows = []
    for strategy, group in by_strategy.items():
        kind = _kind(group[0])
        own = best_unimodal(runs, kind) if group[0].modality is None and kind != "only" else ""
        row = _row(group) | {"gain_over": best, "baseline": own, "baseline_kind": kind}
        for prefix, other in [("gain", best), ("baseline_gain", own), ("reference_gain", reference)]:
            compared = accuracies.get(other, {}) if other != strategy else {}
            row[f"{prefix}_mean"], row[f"{prefix}_ci95"] = paired_interval(
                accuracies[strategy], compared, resolution
            )
        rows.append(row)
    trained = [row for row in rows if row["family"] != "reference"]
    add_comparisons(trained, accuracies, best, resolution)
    fusions = {row["strategy"]: accuracies[row["strategy"]] for row in rows if row["family"] in MULTIMODAL}
    above = holm(p_values(fusions, accuracies.get(reference, {}), resolution))
    for row in rows:
        row["reference_p"] = above.get(row["strategy"], math.nan)
    return rows


def _row(group: Sequence[Run]) -> dict[str, Any]:
    """Returns what a strategy's own runs say."""
    complete = [run for run in group if run.status == "complete"]
    failed = [run for run in group if run.status == "failed"]
    mean, half_width = t_interval([run.metrics["test_accuracy"] for run in complete])
    params = _median(run.cost.get("params") for run in complete)
    return {
        "strategy": group[0].strategy,
        "family": group[0].family,
        "ties_best": False,
        "n_seeds": len(complete),
        "n_failed": len(failed),
        "params": None if math.isnan(params) else round(params),
        "test_accuracy_mean": mean,
        "test_accuracy_ci95": half_width,
        "validation_accuracy_mean": t_interval(
            [value for run in complete if (value := run.metrics.get("validation_accuracy")) is not None]
        ).mean,
        **{name: _median(run.cost.get(name) for run in complete) for name in _COSTS},
        **{
            name: _common(run.metrics.get(name) for run in complete)
            for name in ("learning_rate", "weight_decay")
        },
        **_match(
            group[0], {"params": params, "flops": _median(run.cost.get("train_flops") for run in complete)}
        ),
        "failures": "; ".join(f"seed {run.seed}: {run.reason or 'no reason is recorded'}" for run in failed),
    }


def _match(run: Run, figures: Mapping[str, float]) -> dict[str, Any]:
    match = run.identity.get("match")
    if match is None:
        return {"match": "", "match_to": ""}
    return {
        "match": match["quantity"],
        "match_to": match["to"],
        "match_target": match["target"],
        "match_ratio": figures[match["quantity"]] / match["target"],
    }


def _ceiling_rows(run: Run) -> list[dict[str, Any]]:
    """Returns what no model of one modality can exceed, from the caption channel alone."""
    data = run.data
    ceilings = {
        data.get("captions_modality"): data.get("text_only_ceiling"),
        data.get("class_modality"): data.get("image_only_ceiling"),
    }
    return [
        {
            "strategy": f"ceiling: {modality} only",
            "family": "ceiling",
            "n_seeds": 0,
            "n_failed": 0,
            "test_accuracy_mean": ceiling,
            "gain_over": "",
            "ties_best": False,
            "match": "",
            "match_to": "",
            "baseline": "",
            "baseline_kind": "",
            "failures": "",
        }
        for modality, ceiling in ceilings.items()
        if modality in data.get("modalities", ())
    ]


def _facts(runs: Sequence[Run], shared: Mapping[str, Any], varied: Iterable[str]) -> dict[str, Any]:
    """Returns what all rows of a block say alike."""
    data = runs[0].data
    dataset = data.get("name", "")
    told = [name for name in varied if shared.get(name) not in (None, dataset)]
    return {
        "dataset": dataset,
        "description": data.get("description", ""),
        "captions": data.get("captions", ""),
        **{name: data.get(name, math.nan) for name in ("bits", "interaction_bits")},
        **{name: data.get(name) for name in ("n_train", "n_validation", "n_test")},
        "encoder": shared.get("model.encoder", ""),
        "epochs": shared.get("training.epochs"),
        "tune": shared.get("tune", 0),
        "device": _union(run.environment.get("device", "") for run in runs),
        "version": _union(run.environment.get("version", "") for run in runs),
        "commit": _union(run.environment.get("commit", "") for run in runs),
        "differs": ", ".join(f"{name.rpartition('.')[2]} {str(shared[name])[:24]}" for name in told),
    }


def _digest(shared: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]


def _test_accuracies(runs: Iterable[Run]) -> dict[int, float]:
    """Returns test accuracy by seed."""
    return {run.seed: run.metrics["test_accuracy"] for run in runs if run.status == "complete"}


def _median(values: Iterable[float | None]) -> float:
    measured = [value for value in values if value is not None]
    return float(statistics.median(measured)) if measured else math.nan


def _common(values: Iterable[float | None]) -> float:
    """Returns the value that all have; NaN where they differ or none has one."""
    found = set(values)
    return float(value) if len(found) == 1 and (value := found.pop()) is not None else math.nan


def _union(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping as one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _varied(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the names of what differs between settings, but for what a heading says anyway."""
    first, *others = [*settings] or [{}]
    names = {name for flat in (first, *others) for name in flat}
    varied = {name for name in names if any(flat.get(name) != first.get(name) for flat in others)}
    return sorted(varied if varied == {"fingerprint"} else varied - _IN_HEADING - {"fingerprint"})
