"""The columns of a table as people read it: what each is called, shows, and sorts by."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from fusion_bench.errors import UserError, unknown_name
from fusion_bench.families import FAMILIES
from fusion_bench.metrics.calibration import BINS
from fusion_bench.metrics.classification import LOWER_IS_BETTER
from fusion_bench.report.notes import best_of, is_off_target
from fusion_bench.report.text import MISSING, percent, points

Row = Mapping[Hashable, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
      name: as on the command line.
      header: above it; "{best}" stands for the strategy that gains are over.
      cell: what it shows of a row.
      key: the frame's column that it sorts by.
      descending: whether the best value is the largest.
      detail: whether its values are computed from stored logits (`table.DETAILS`).
      more: what else of the frame it shows.
      meaning: a sentence for below the table, where heading and notes do not say what it is.
    """

    name: str
    header: str
    cell: Callable[[Row], str]
    key: str
    descending: bool = True
    detail: bool = False
    more: tuple[str, ...] = ()
    meaning: str = ""

    def title(self, block: pd.DataFrame) -> str:
        """Returns the heading above the column for a block of the frame."""
        return self.header.format(best=best_of(block) or "?")


def _metric(
    name: str, header: str, show: Callable[[float, float], str] = percent, meaning: str = ""
) -> Column:
    def cell(row: Row) -> str:
        return show(row[f"{name}_mean"], row[f"{name}_ci95"])

    key, more = f"{name}_mean", (f"{name}_ci95",)
    return Column(name, header, cell, key, name not in LOWER_IS_BETTER, True, more, meaning)


def _cost(name: str, header: str, show: Callable[[float], str], key: str, *, descending=False) -> Column:
    return Column(name, header, lambda row: show(row[key]), key, descending)


def _sampling(name: str, header: str, key: str, beginning: str) -> Column:
    meaning = f"{beginning}, what another test set would change: 95 %, by a bootstrap over images."
    return Column(name, header, lambda row: number(100 * row[key], ".2f"), key, False, True, (), meaning)


def number(value: float, form: str) -> str:
    """Returns a number in a format, or a dash for none."""
    return MISSING if math.isnan(value) else format(value, form)


def _decimal(mean: float, half_width: float) -> str:
    """Returns a mean with its interval, to three places: "0.412 ± 0.013"."""
    if math.isnan(mean):
        return MISSING
    return f"{mean:.3f}" if math.isnan(half_width) else f"{mean:.3f} ± {half_width:.3f}"


def _rate(value: float) -> str:
    """Returns a rate with three significant digits."""
    return number(value if math.isnan(value) else float(f"{value:.3g}"), ",.0f" if value >= 100 else ".3g")


def _p_value(row: Row) -> str:
    p = row["gain_p"]
    return MISSING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _rank(row: Row) -> str:
    if pd.isna(row["rank"]):
        return MISSING
    return f"{row['rank']} ({row['rank_low']}–{row['rank_high']})"


def _mark(row: Row, quantity: str) -> str:
    """Returns a star for a figure that was to be matched and is not."""
    return "*" if row["match"] == quantity and is_off_target(row) else ""


def _params(row: Row) -> str:
    return MISSING if pd.isna(row["params"]) else f"{row['params']:,}" + _mark(row, "params")


def _train_flops(row: Row) -> str:
    return number(row["train_flops"] / 1e6, ".3f") + _mark(row, "flops")


def _accuracy(row: Row) -> str:
    return percent(row["test_accuracy_mean"], row["test_accuracy_ci95"])


def _gain(row: Row) -> str:
    return points(row["gain_mean"], row["gain_ci95"])


ACCURACY = "test accuracy, %"
COLUMNS = {
    column.name: column
    for column in (
        Column("strategy", "strategy", lambda row: row["strategy"], "strategy", descending=False),
        Column("family", "family", lambda row: row["family"], "family", descending=False),
        Column("accuracy", ACCURACY, _accuracy, "test_accuracy_mean", more=("test_accuracy_ci95",)),
        Column("gain", "gain over {best}", _gain, "gain_mean", more=("gain_ci95", "gain_over")),
        Column(
            "p",
            "p (Holm)",
            _p_value,
            "gain_p",
            descending=False,
            meaning="p: of the paired t-test of the gain over seeds, Holm-corrected over the rows shown.",
        ),
        Column(
            "rank",
            "rank",
            _rank,
            "rank",
            descending=False,
            more=("rank_low", "rank_high"),
            meaning="Rank: by mean accuracy; in brackets the ranks that the seeds allow for, all together with 95 % "
            "confidence.",
        ),
        Column("params", "parameters", _params, "params", descending=False),
        Column("train_flops", "train MFLOP", _train_flops, "train_flops", descending=False),
        _cost("test_flops", "test MFLOP", lambda value: number(value / 1e6, ".3f"), "inference_flops"),
        _cost("train_rate", "train examples/s", _rate, "train_examples_per_s", descending=True),
        _cost("test_rate", "test examples/s", _rate, "inference_examples_per_s", descending=True),
        _cost("latency", "latency, ms", lambda value: number(1e3 * value, ".3f"), "latency_s"),
        _cost("train_seconds", "train s", lambda value: number(value, ".1f"), "train_seconds"),
        _cost("compile", "compile s", lambda value: number(value, ".1f"), "compile_s"),
        _metric("balanced_accuracy", "balanced accuracy, %"),
        _metric("macro_f1", "macro F1, %"),
        _metric(
            "roc_auc", "ROC AUC, %", meaning="ROC AUC: each class against the others, mean over classes."
        ),
        _metric("nll", "NLL, nats", _decimal),
        _metric(
            "brier",
            "Brier score",
            _decimal,
            "Brier score: squared errors of the class probabilities, their sum over classes, 0 to 2.",
        ),
        _metric("ece", "ECE, %", meaning=f"ECE: expected calibration error, in {BINS} bins of confidence."),
        _sampling("sampling", "sampling ±, points", "sampling_ci95", "Sampling ±: of the accuracy"),
        _sampling(
            "gain_sampling",
            "gain's sampling ±",
            "gain_sampling_ci95",
            "Gain's sampling ±: of the gain, in points",
        ),
    )
}
DEFAULT: Sequence[str] = (
    "strategy",
    "family",
    "accuracy",
    "gain",
    "params",
    "train_rate",
    "test_rate",
    "compile",
)


def default_columns(frame: pd.DataFrame) -> list[Column]:
    """Returns the usual columns, with FLOPs where they were matched."""
    names = [*DEFAULT]
    if any(frame["match"] == "flops"):
        names.insert(names.index("params") + 1, "train_flops")
    return [COLUMNS[name] for name in names]


def meanings(columns: Sequence[Column]) -> list[str]:
    """Returns the sentences that say what columns are, of those that need one."""
    return [column.meaning for column in columns if column.meaning]


def parse_columns(text: str) -> list[Column]:
    """Reads a comma-separated list of columns; "all" stands for every one. The strategy's name always leads.

    Raises:
      UserError: a name is unknown, or there is none.
    """
    names = [name for part in text.split(",") if (name := part.strip())]
    if "all" in names:
        names = [*COLUMNS]
    for name in names:
        if name not in COLUMNS:
            raise unknown_name("column", name, COLUMNS)
    if not names:
        raise UserError(f"no column is named; choose from {', '.join(COLUMNS)}")
    return [COLUMNS[name] for name in dict.fromkeys(["strategy", *names])]


def parse_column(name: str) -> Column:
    """Returns the column of this name.

    Raises:
      UserError: there is none.
    """
    if name not in COLUMNS:
        raise unknown_name("column", name, COLUMNS)
    return COLUMNS[name]


def to_csv(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns the frame as CSV, unrounded: the chosen columns with their intervals, or all of it."""
    if columns is None:
        return frame.to_csv(index=False)
    names = ["setting", *(name for column in columns for name in (column.key, *column.more))]
    return frame[list(dict.fromkeys(names))].to_csv(index=False)


def arrange(frame: pd.DataFrame, sort: Column | None, *, by_family: bool = True) -> pd.DataFrame:
    """Returns the rows sorted by a column, the best value first, missing ones last; settings stay together.

    Args:
      frame: from `table`.
      sort: the column; None leaves the order of the frame.
      by_family: keep the rows of a family together.
    """
    blocks = []
    for _, block in frame.groupby("setting", sort=False):
        if sort is not None:
            block = block.sort_values(
                sort.key, ascending=not sort.descending, kind="stable", na_position="last"
            )
        if by_family:
            order = {family: place for place, family in enumerate(_families(frame))}
            block = block.sort_values("family", key=lambda column: column.map(order), kind="stable")
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True) if blocks else frame


def _families(frame: pd.DataFrame) -> Sequence[str]:
    return [family for family in FAMILIES if family in set(frame["family"])]
