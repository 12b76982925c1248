"""What figures and page show of each setting: computed here, drawn elsewhere."""

import dataclasses
import math
import re
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from fusion_bench.errors import UserError
from fusion_bench.families import MULTIMODAL
from fusion_bench.metrics.calibration import Reliability, calibration_error, reliability
from fusion_bench.metrics.classification import class_accuracy, confusion_matrix, roc_auc, roc_curve
from fusion_bench.metrics.intervals import Interval, paired_differences, t_interval
from fusion_bench.metrics.significance import pairwise_p_values
from fusion_bench.report.notes import best_of, heading
from fusion_bench.report.table import blocks
from fusion_bench.store import Run, Store

FOCUS = 0.12
"""Accuracies further than this below the best are outside the enlarged part of a figure."""


class Band(NamedTuple):
    """A mean curve, with half the width of its 95 % interval over seeds at each point (NaN for one seed)."""

    x: Float[np.ndarray, " point"]
    mean: Float[np.ndarray, " point"]
    half_width: Float[np.ndarray, " point"]


class Diagnosis(NamedTuple):
    """What the logits of one strategy say, over all its seeds.

    Attributes:
      calibration: by bins of confidence, the examples of all seeds together.
      calibration_error: over seeds.
      roc: mean over classes of each against the others.
      area: under it, over seeds.
      classes: accuracy by class, over seeds; NaN for a class without examples.
      confusion: of the examples of each class, a row, the part that was taken for each class, a column.
    """

    calibration: Reliability
    calibration_error: Interval
    roc: Band
    area: Interval
    classes: Band
    confusion: Float[np.ndarray, "class class"]


class Matrix(NamedTuple):
    """Every two strategies compared.

    Attributes:
      strategies: by mean accuracy, the highest first.
      differences: mean accuracy of the row's over that of the column's.
      p_values: of the paired t-test, Holm-corrected over all pairs; NaN where there is none.
    """

    strategies: list[str]
    differences: Float[np.ndarray, "strategy strategy"]
    p_values: Float[np.ndarray, "strategy strategy"]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found in one setting.

    Attributes:
      name: of its folder and its section, a slug.
      title: one line.
      block: its part of the table.
      runs: complete and failed ones.
      curves: validation accuracy by epoch, of what was trained.
      diagnoses: of what has logits.
      matrix: every two trained strategies compared.
      class_names: by label.
      omitted: what could not be read, a line each.
    """

    name: str
    title: str
    block: pd.DataFrame
    runs: list[Run]
    curves: dict[str, Band]
    diagnoses: dict[str, Diagnosis]
    matrix: Matrix
    class_names: list[str]
    omitted: list[str]

    @property
    def measured(self) -> pd.DataFrame:
        """The rows that were trained or joined and have a result."""
        lines = self.block["family"].isin(["reference", "ceiling"])
        keep: Any = ~lines & self.block["test_accuracy_mean"].notna()
        return self.block.loc[keep].reset_index(drop=True)

    @property
    def lines(self) -> list[dict[Hashable, Any]]:
        """What is drawn as a line: the Bayes reference and the ceilings, as rows of the table."""
        keep: Any = (
            self.block["family"].isin(["reference", "ceiling"]) & self.block["test_accuracy_mean"].notna()
        )
        return self.block.loc[keep].to_dict("records")

    @property
    def lowest(self) -> float:
        """The lower end of the lowest interval."""
        rows = self.measured.to_dict("records")
        ends = [row["test_accuracy_mean"] - _or_zero(row["test_accuracy_ci95"]) for row in rows]
        return float(min(ends))

    @property
    def families(self) -> dict[str, str]:
        """The family of each strategy."""
        return dict(zip(self.block["strategy"], self.block["family"], strict=True))

    @property
    def leaders(self) -> list[str]:
        """The best strategy of each family on validation, unimodal first.

        What is joined after training is fitted to the validation set, and stands back where others were trained.
        """
        trained = {self.families[strategy] for strategy in self.curves}
        best: dict[str, tuple[float, str]] = {}
        for row in self.measured.to_dict("records"):
            strategy, family, accuracy = row["strategy"], row["family"], row["validation_accuracy_mean"]
            stands_back = strategy not in self.curves and family in trained
            if family in MULTIMODAL and not stands_back and not math.isnan(accuracy):
                best[family] = max(best.get(family, (accuracy, strategy)), (accuracy, strategy))
        own = [name for name in [best_of(self.block)] if name in set(self.measured["strategy"])]
        return [*dict.fromkeys([*own, *(strategy for _, strategy in best.values())])]

    def said_of(self, strategies: Iterable[str]) -> str:
        """Returns how many seeds the means of these strategies are over: "n = 3 seeds"."""
        counts = self.block.loc[self.block["strategy"].isin([*strategies]), "n_seeds"].dropna()
        return seeds_of([int(count) for count in counts if count > 0])


def seeds_of(counts: Sequence[int]) -> str:
    """Returns numbers of seeds in words: "n = 3 seeds", "n = 2 to 3 seeds", "n = 1 seed"."""
    low, high = (min(counts), max(counts)) if counts else (0, 0)
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"n = {number} seed{'s' * (high != 1)}"


def find(store: Store, frame: pd.DataFrame) -> list[Findings]:
    """Returns the findings of each setting, in the order of the table."""
    by_setting = blocks(store)
    return [
        _findings(store, block.reset_index(drop=True), by_setting[str(digest)])
        for digest, block in frame.groupby("setting", sort=False)
    ]


def _findings(store: Store, block: pd.DataFrame, runs: list[Run]) -> Findings:
    complete: dict[str, list[Run]] = {strategy: [] for strategy in block["strategy"]}
    for run in runs:
        if run.status == "complete":
            complete[run.strategy].append(run)
    omitted: list[str] = []
    curves, diagnoses = {}, {}
    for strategy, group in complete.items():
        try:
            if any("train_seconds" in run.cost for run in group):
                curves[strategy] = _learning_curve([store.curve(run.id) for run in group])
        except (UserError, KeyError) as error:
            omitted.append(f"learning curve of {strategy}: {error}")
        try:
            if group:
                diagnoses[strategy] = _diagnose([store.predictions(run.id) for run in group])
        except (UserError, KeyError) as error:
            omitted.append(f"diagnosis of {strategy}: {error}")
    classes = int(runs[0].data.get("num_classes", 0))
    names = next((run.data["class_names"] for run in runs if "class_names" in run.data), None)
    trained = {s: group for s, group in complete.items() if group and group[0].family != "reference"}
    first = block.iloc[0]
    return Findings(
        name=re.sub(r"[^a-z0-9]+", "-", f"{first['captions']}-{first['setting']}".lower()).strip("-"),
        title=heading(block),
        block=block,
        runs=runs,
        curves=curves,
        diagnoses=diagnoses,
        matrix=compare(
            {s: {r.seed: r.metrics["test_accuracy"] for r in g} for s, g in trained.items()},
            1 / int(block["n_test"].iloc[0]),
        ),
        class_names=[str(name) for name in names or range(classes)],
        omitted=omitted,
    )


def compare(values: Mapping[str, Mapping[int, float]], resolution: float) -> Matrix:
    """Compares every two strategies over the seeds that both have.

    Args:
      values: of each strategy, by seed.
      resolution: of the values, 1 / n for accuracies on n examples.
    """
    means = {strategy: statistics.fmean(by_seed.values()) for strategy, by_seed in values.items()}
    order = sorted(means, key=lambda strategy: -means[strategy])
    p_values = pairwise_p_values(values, resolution)
    return Matrix(
        order,
        np.array([[_difference(values[row], values[column]) for column in order] for row in order]).reshape(
            len(order), len(order)
        ),
        np.array([[p_values.get((row, column), math.nan) for column in order] for row in order]).reshape(
            len(order), len(order)
        ),
    )


def _difference(values: Mapping[int, float], others: Mapping[int, float]) -> float:
    differences = paired_differences(values, others)
    return statistics.fmean(differences) if differences else math.nan


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Returns the points that no other is at least as cheap and as good as, and better in one; cheapest first.

    Points of equal cost and value are all on the front, or none is. A point with NaN is never on it.
    """
    points = [
        (cost, value, place) for place, (cost, value) in enumerate(zip(costs, values, strict=True))
    ]  # fmt: skip
    known = [point for point in points if not (math.isnan(point[0]) or math.isnan(point[1]))]
    front = [
        (cost, value, place)
        for cost, value, place in known
        if not any(c <= cost and v >= value and (c < cost or v > value) for c, v, _ in known)
    ]
    return [place for *_, place in sorted(front)]


def mean_band(x: Float[np.ndarray, " point"], samples: Float[np.ndarray, "seed point"]) -> Band:
    """Returns the mean over seeds with its 95 % interval at each point; NaN is left out."""
    intervals = [t_interval(column[~np.isnan(column)]) for column in samples.T]
    return Band(x, np.array([i.mean for i in intervals]), np.array([i.half_width for i in intervals]))


def focus(block: pd.DataFrame) -> tuple[float, float]:
    """Returns the range of accuracy in which the best strategies, within `FOCUS` of the best, can be told apart."""
    rows = [r for r in block.to_dict("records") if r["family"] != "ceiling" and r["test_accuracy_mean"] >= 0]
    best = max(row["test_accuracy_mean"] for row in rows)
    near = [
        (row["test_accuracy_mean"], _or_zero(row["test_accuracy_ci95"]))
        for row in rows
        if row["test_accuracy_mean"] >= best - FOCUS
    ]
    low = max(min(mean - width for mean, width in near), best - 1.2 * FOCUS)
    high = min(max(mean + width for mean, width in near), best + FOCUS / 2)  # an interval may be very wide
    margin = 0.06 * (high - low) or 0.01
    return float(low - margin), float(min(high + margin, 1.005))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _learning_curve(curves: Sequence[pd.DataFrame]) -> Band:
    by_epoch = pd.concat([curve.set_index("epoch")["validation_accuracy"] for curve in curves], axis=1)
    by_epoch = by_epoch.sort_index()
    return mean_band(by_epoch.index.to_numpy(np.float64), by_epoch.to_numpy(np.float64).T)


def _diagnose(stored: Sequence[Mapping[str, np.ndarray]]) -> Diagnosis:
    tests = [(predictions["test_logits"], predictions["test_labels"]) for predictions in stored]
    rocs = [roc_curve(*test) for test in tests]
    counts = np.sum([confusion_matrix(*test) for test in tests], axis=0)
    totals = counts.sum(axis=1, keepdims=True)
    pooled = np.concatenate([logits for logits, _ in tests]), np.concatenate([labels for _, labels in tests])
    return Diagnosis(
        calibration=reliability(*pooled),
        calibration_error=t_interval([calibration_error(*test) for test in tests]),
        roc=mean_band(rocs[0][0], np.stack([true_rate for _, true_rate in rocs])),
        area=t_interval([roc_auc(*test) for test in tests]),
        classes=mean_band(np.arange(len(totals), dtype=float), np.stack([class_accuracy(*t) for t in tests])),
        confusion=np.where(totals > 0, counts / np.maximum(totals, 1), np.nan),
    )
