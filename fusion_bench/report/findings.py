"""What figures and page show of each setting: computed here, drawn elsewhere."""

import dataclasses
import math
import re
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
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
from fusion_bench.report.block import Block, blocks
from fusion_bench.report.notes import best_of, heading
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
        return self._with_result(*MULTIMODAL, "unimodal")

    @property
    def lines(self) -> list[dict[Hashable, Any]]:
        """The Bayes reference and the ceilings, as rows of the table; they are drawn as lines."""
        return self._with_result("reference", "ceiling").to_dict("records")

    def _with_result(self, *families: str) -> pd.DataFrame:
        keep: Any = self.block["family"].isin(families) & self.block["test_accuracy_mean"].notna()
        return self.block.loc[keep].reset_index(drop=True)

    @property
    def families(self) -> dict[str, str]:
        """The family of each strategy."""
        return dict(zip(self.block["strategy"], self.block["family"], strict=True))

    @property
    def leaders(self) -> list[str]:
        """The best strategy of each family on validation, unimodal first.

        Post-hoc strategies are fitted on validation data, so a trained strategy of the family takes precedence.
        """
        trained = {self.families[strategy] for strategy in self.curves}
        best: dict[str, tuple[float, str]] = {}
        for row in self.measured.to_dict("records"):
            strategy, family, accuracy = row["strategy"], row["family"], row["validation_accuracy_mean"]
            yields = strategy not in self.curves and family in trained
            if family in MULTIMODAL and not yields and not math.isnan(accuracy):
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
    groups = frame.groupby("setting", sort=False)
    return [_findings(by_setting[str(digest)], rows.reset_index(drop=True)) for digest, rows in groups]


def _findings(block: Block, frame: pd.DataFrame) -> Findings:
    omitted: list[str] = []
    curves, diagnoses = {}, {}
    rows = [row for row in block.rows.values() if row.complete]
    for row in rows:
        try:
            if any("train_seconds" in run.cost for run in row.complete):
                curves[row.name] = _learning_curve([block.store.curve(run.id) for run in row.complete])
        except (UserError, KeyError) as error:
            omitted.append(f"learning curve of {row.name}: {error}")
        try:
            diagnoses[row.name] = _diagnose(row.tests)
        except (UserError, KeyError) as error:
            omitted.append(f"diagnosis of {row.name}: {error}")
    in_order = sorted(rows, key=lambda row: [*frame["strategy"]].index(row.name))
    return Findings(
        name=re.sub(r"[^a-z0-9]+", "-", f"{block.data['captions']}-{block.digest}".lower()).strip("-"),
        title=heading(frame),
        block=frame,
        runs=block.runs,
        curves={row.name: curves[row.name] for row in in_order if row.name in curves},
        diagnoses={row.name: diagnoses[row.name] for row in in_order if row.name in diagnoses},
        matrix=compare(
            {row.name: row.accuracies for row in rows if row.family != "reference"}, block.resolution
        ),
        class_names=[str(name) for name in block.data["class_names"]],
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

    def square(of: Callable[[str, str], float]) -> Float[np.ndarray, "strategy strategy"]:
        return np.array([of(row, column) for row in order for column in order]).reshape(
            len(order), len(order)
        )

    def difference(row: str, column: str) -> float:
        differences = paired_differences(values[row], values[column])
        return statistics.fmean(differences) if differences else math.nan

    return Matrix(order, square(difference), square(lambda *pair: p_values.get(pair, math.nan)))


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Returns the points that no other is at least as cheap and as good as, and better in one; cheapest first.

    Points of equal cost and value are all on the front, or none is. A point with NaN is never on it.
    """
    points = zip(costs, values, range(len(values)), strict=True)
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
    known = block.loc[(block["family"] != "ceiling") & block["test_accuracy_mean"].notna()]
    mean, width = known["test_accuracy_mean"].to_numpy(), known["test_accuracy_ci95"].fillna(0.0).to_numpy()
    near = mean >= mean.max() - FOCUS
    low = max((mean - width)[near].min(), mean.max() - 1.2 * FOCUS)
    high = min((mean + width)[near].max(), mean.max() + FOCUS / 2)  # an interval may be very wide
    margin = 0.06 * (high - low) or 0.01
    return float(low - margin), float(min(high + margin, 1.005))


def _learning_curve(curves: Sequence[pd.DataFrame]) -> Band:
    by_epoch = pd.concat([curve.set_index("epoch")["validation_accuracy"] for curve in curves], axis=1)
    by_epoch = by_epoch.sort_index()
    return mean_band(by_epoch.index.to_numpy(np.float64), by_epoch.to_numpy(np.float64).T)


def _diagnose(tests: Sequence[tuple[np.ndarray, np.ndarray]]) -> Diagnosis:
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
