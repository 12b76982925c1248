"""The columns of the table: how each is computed, and what people read."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from fusion_bench.errors import UserError, unknown_name
from fusion_bench.families import FAMILIES
from fusion_bench.metrics.calibration import BINS
from fusion_bench.metrics.classification import LOWER_IS_BETTER, METRICS
from fusion_bench.metrics.intervals import Interval, t_interval
from fusion_bench.metrics.significance import bootstrap_difference, bootstrap_interval
from fusion_bench.report.block import Row
from fusion_bench.report.notes import best_of, is_off_target
from fusion_bench.report.text import MISSING, optional, percent, points


@dataclasses.dataclass(frozen=True)
class Column:
    """One column, of the frame alone if it has no heading.

    Attributes:
      name: on the command line, and in the frame where `keys` names no others.
      compute: its value of a row; as many values as it has keys.
      heading: above it, broken where a terminal breaks it; "{best}" stands for the strategy that gains are over.
      form: its values as text.
      keys: in the frame; the rows are sorted by the first.
      also: other keys of the frame that a CSV of chosen columns adds.
      note: a sentence for below the table, where heading and other notes do not explain it.
      place: among the columns that people read; equal ones are in the order of the list.
      matched: the quantity that it shows; a star marks a row that misses its target.
      is_count: whether its values are whole numbers.
      is_ascending: whether the best value is the lowest.
      is_detail: whether it is computed from stored logits.
      is_default: whether a table shows it without being asked.
      on_page: whether the page shows it at first.
    """

    name: str
    compute: Callable[[Row], Any]
    heading: str = ""
    form: Callable[..., str] = str
    keys: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    note: str = ""
    place: int = 9
    matched: str = ""
    is_count: bool = False
    is_ascending: bool = False
    is_detail: bool = False
    is_default: bool = False
    on_page: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", self.keys or (self.name,))

    @property
    def is_text(self) -> bool:
        return self.form is str

    def values(self, row: Row) -> dict[str, Any]:
        """Returns its values of a row, by key."""
        found = self.compute(row)
        return dict(zip(self.keys, found if len(self.keys) > 1 else (found,), strict=True))

    def cell(self, row: Mapping[Hashable, Any]) -> str:
        """Returns its text of a row of the frame."""
        text = self.form(*(row[key] for key in self.keys))
        return text + "*" if self.matched and row["match"] == self.matched and is_off_target(row) else text

    def title(self, block: pd.DataFrame) -> str:
        """Returns its heading for a block of the frame."""
        return self.heading.format(best=best_of(block) or "?")


def value_column(name: str, compute: Callable[[Row], Any] = lambda row: None) -> Column:
    """Returns the column of a value that has a mean and an interval over seeds, NAME_mean and NAME_ci95."""
    return Column(name, compute, name, _decimal, (f"{name}_mean", f"{name}_ci95"))


def _decimal(mean: float, half_width: float) -> str:
    """Returns a mean with its interval, to three places: "0.412 ± 0.013"."""
    return optional(mean, ".3f") + ("" if math.isnan(half_width) else f" ± {half_width:.3f}")


def _rank(rank: Any, low: Any, high: Any) -> str:
    return MISSING if pd.isna(rank) else f"{rank} ({low}–{high})"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else optional(p, ".3f")


def _scaled(form: str, scale: float = 1.0) -> Callable[[float], str]:
    return lambda value: optional(scale * value, form)


def _params(row: Row) -> int | None:
    params = row.cost("params")
    return None if math.isnan(params) else round(params)


def _accuracy(row: Row) -> Interval:
    return t_interval([*row.accuracies.values()]) if row.runs else Interval(row.ceiling, math.nan)


def _validation(row: Row) -> float:
    found = (run.metrics.get("validation_accuracy") for run in row.complete)
    return t_interval([value for value in found if value is not None]).mean


def _match_ratio(row: Row) -> float:
    quantity, target = (row.block.setting.get(f"match.{key}") for key in ("quantity", "target"))
    return row.cost("params" if quantity == "params" else "train_flops") / (target or math.nan)


def _failures(row: Row) -> str:
    failed = [run for run in row.runs if run.status == "failed"]
    return "; ".join(f"seed {run.seed}: {run.reason or 'no reason is recorded'}" for run in failed)


def _gain_sampling(row: Row) -> float:
    over = row.block.rows.get(row.block.best, row)
    if over is row or not (row.tests and over.tests):
        return math.nan
    return bootstrap_difference(row.correct, over.correct).half_width


def _metric(name: str, heading: str = "", form: Callable[..., str] = percent, note: str = "") -> Column:
    def compute(row: Row) -> Sequence[float]:
        return t_interval([METRICS[name](*test) for test in row.tests])

    keys, is_ascending = (f"{name}_mean", f"{name}_ci95"), name in LOWER_IS_BETTER
    return Column(name, compute, heading, form, keys, note=note, is_ascending=is_ascending, is_detail=True)


def _fact(name: str, empty: Any = None, *, is_count: bool = False) -> Column:
    return Column(name, lambda row: row.block.data.get(name, empty), is_count=is_count)


def _union(name: str, part: str) -> Column:
    def compute(row: Row) -> str:
        return ", ".join(sorted({value for run in row.block.runs if (value := getattr(run, part).get(name))}))

    return Column(name, compute)


ALL: tuple[Column, ...] = (
    Column("strategy", lambda row: row.name, "strategy", is_ascending=True, place=0, is_default=True, on_page=True),
    Column("family", lambda row: row.family, "family", is_ascending=True, place=0, is_default=True, on_page=True),
    Column("n_seeds", lambda row: len(row.complete), is_count=True),
    Column("n_failed", lambda row: len(row.runs) - len(row.complete), is_count=True),
    Column(
        "params", _params, "parameters", lambda value: optional(value, ","), place=2, matched="params", is_count=True,
        is_ascending=True, is_default=True, on_page=True,
    ),
    Column(
        "accuracy", _accuracy, "test\naccuracy, %", percent, ("test_accuracy_mean", "test_accuracy_ci95"),
        place=1, is_default=True, on_page=True,
    ),
    Column(
        "gain", lambda row: row.over(row.block.best), "gain over\n{best}", points, ("gain_mean", "gain_ci95"),
        also=("gain_over",), place=1, is_default=True, on_page=True,
    ),
    Column(
        "p", lambda row: row.block.compared.gain_p.get(row.name, math.nan), "p (Holm)", _p_value, ("gain_p",), place=1,
        is_ascending=True, on_page=True,
        note="p: of the paired t-test of the gain over seeds, Holm-corrected over the rows shown.",
    ),
    Column("gain_over", lambda row: row.block.best if row.runs else ""),
    Column("ties_best", lambda row: row.name in row.block.compared.ties),
    Column(
        "rank", lambda row: row.block.compared.ranks.get(row.name, (None, None, None)), "rank", _rank,
        ("rank", "rank_low", "rank_high"), place=1, is_count=True, is_ascending=True, on_page=True,
        note="Rank: by mean accuracy; in brackets the ranks that the seeds allow for, all together with 95 % "
        "confidence.",
    ),
    *(Column(f"detectable_gain{end}", lambda row, i=i: row.power[i][0]) for i, end in enumerate(("", "_corrected"))),
    *(
        Column(f"seeds_for_a_point{end}", lambda row, i=i: row.power[i][1], is_count=True)
        for i, end in enumerate(("", "_corrected"))
    ),
    Column("baseline_kind", lambda row: row.kind),
    Column("baseline", lambda row: row.baseline),
    Column("", lambda row: row.over(row.baseline), keys=("baseline_gain_mean", "baseline_gain_ci95")),
    Column("", lambda row: row.over(row.block.reference), keys=("reference_gain_mean", "reference_gain_ci95")),
    Column("reference_p", lambda row: row.block.compared.reference_p.get(row.name, math.nan)),
    Column("validation_accuracy_mean", _validation),
    Column(
        "train_rate", lambda row: row.cost("train_examples_per_s"), "train\nexamples/s", optional,
        ("train_examples_per_s",), place=4, is_default=True,
    ),
    Column(
        "test_rate", lambda row: row.cost("inference_examples_per_s"), "test\nexamples/s", optional,
        ("inference_examples_per_s",), place=4, is_default=True, on_page=True,
    ),
    Column(
        "latency", lambda row: row.cost("latency_s"), "latency, ms", _scaled(".3f", 1e3), ("latency_s",), place=4,
        is_ascending=True,
    ),
    Column(
        "compile", lambda row: row.cost("compile_s"), "compile\ns", _scaled(".1f"), ("compile_s",), place=6,
        is_ascending=True, is_default=True,
    ),
    Column(
        "train_flops", lambda row: row.cost("train_flops"), "train\nMFLOP", _scaled(".3f", 1e-6), place=3,
        matched="flops", is_ascending=True, on_page=True,
    ),
    Column(
        "test_flops", lambda row: row.cost("inference_flops"), "test\nMFLOP", _scaled(".3f", 1e-6),
        ("inference_flops",), place=3, is_ascending=True,
    ),
    Column(
        "train_seconds", lambda row: row.cost("train_seconds"), "train s", _scaled(".1f"), place=5, is_ascending=True,
        on_page=True,
    ),
    *(
        Column(f"match{end}", lambda row, key=key: row.block.setting.get(key, "") if row.runs else "")
        for end, key in (("", "match.quantity"), ("_to", "match.to"))
    ),
    Column("match_target", lambda row: row.block.setting.get("match.target", math.nan) if row.runs else math.nan),
    Column("match_ratio", _match_ratio),
    Column("tune", lambda row: row.block.setting.get("tune", 0)),
    Column("learning_rate", lambda row: row.trained_with("learning_rate")),
    Column("weight_decay", lambda row: row.trained_with("weight_decay")),
    Column("dataset", lambda row: row.block.data.get("name", "")),
    *(_fact(name, "") for name in ("description", "captions")),
    *(_fact(name, math.nan) for name in ("bits", "interaction_bits")),
    Column("encoder", lambda row: row.block.setting.get("model.encoder", "")),
    Column("epochs", lambda row: row.block.setting.get("training.epochs"), is_count=True),
    *(_fact(name, is_count=True) for name in ("n_train", "n_validation", "n_test")),
    *(_union(*pair) for pair in (("device", "environment"), ("version", "environment"), ("commit", "environment"))),
    Column("setting", lambda row: row.block.digest),
    Column("differs", lambda row: row.block.differs),
    Column("failures", _failures),
    _metric("accuracy"),
    _metric("balanced_accuracy", "balanced\naccuracy, %"),
    _metric("macro_f1", "macro F1, %"),
    _metric("roc_auc", "ROC AUC, %", note="ROC AUC: each class against the others, mean over classes."),
    _metric("nll", "NLL, nats", _decimal),
    _metric(
        "brier", "Brier score", _decimal,
        "Brier score: squared errors of the class probabilities, their sum over classes, 0 to 2.",
    ),
    _metric("ece", "ECE, %", note=f"ECE: expected calibration error, in {BINS} bins of confidence."),
    Column(
        "sampling", lambda row: bootstrap_interval(row.correct).half_width if row.tests else math.nan,
        "sampling\n±, points", _scaled(".2f", 100), ("sampling_ci95",), is_ascending=True, is_detail=True,
        note="Sampling ±: of the accuracy, what another test set would change: 95 %, by a bootstrap over images.",
    ),
    Column(
        "gain_sampling", _gain_sampling, "gain's\nsampling ±", _scaled(".2f", 100), ("gain_sampling_ci95",),
        is_ascending=True, is_detail=True,
        note="Gain's sampling ±: of the gain, in points, what another test set would change: 95 %, by a bootstrap "
        "over images.",
    ),
)  # fmt: skip
"""In the order of a CSV. Costs of training and size are medians over seeds; the others are measured once.

Besides what the headings say: a gain is paired by seed, and NaN for the strategy that gains are over, `gain_over`;
`ties_best`: the multimodal strategy with the highest mean, and those not significantly different from it;
`detectable_gain`: the true gain that a paired t-test over these seeds finds with 80 % power; `seeds_for_a_point`: the
seeds that find one percentage point, empty above a thousand; `_corrected`: after Holm's correction, as the first of the
rows; `baseline`: the best unimodal strategy of the row's own kind of encoder, `baseline_kind`; `match_ratio`: a matched
quantity over its target; `tune`: the number of settings tried for each strategy.
"""
COLUMNS = {column.name: column for column in sorted(ALL, key=lambda column: column.place) if column.heading}
"""What people read, in order."""


def known_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Returns all columns that people may read, with those of further values in a frame."""
    listed = {key for column in ALL for key in column.keys}
    names = [
        str(key).removesuffix("_mean") for key in frame if key not in listed and f"{key}".endswith("_mean")
    ]
    return COLUMNS | {name: value_column(name) for name in names if f"{name}_ci95" in frame}


def default_columns(frame: pd.DataFrame) -> list[Column]:
    """Returns the usual columns, with FLOPs where they were matched."""
    by_flops = any(frame["match"] == "flops")
    return [
        column for column in COLUMNS.values() if column.is_default or (by_flops and column.matched == "flops")
    ]


def parse_columns(text: str, frame: pd.DataFrame | None = None) -> list[Column]:
    """Reads a comma-separated list of columns; "all" stands for every one. The strategy's name always leads.

    Args:
      text: as on the command line.
      frame: may have further columns of values.

    Raises:
      UserError: a name is unknown, or there is none.
    """
    known = COLUMNS if frame is None else known_columns(frame)
    names = [name for part in text.split(",") if (name := part.strip())]
    if "all" in names:
        names = [*known]
    if not names:
        raise UserError(f"no column is named; choose from {', '.join(known)}")
    return [parse_column(name, known) for name in dict.fromkeys(["strategy", *names])]


def parse_column(name: str, known: Mapping[str, Column] = COLUMNS) -> Column:
    """Returns the column of this name.

    Raises:
      UserError: there is none.
    """
    if name not in known:
        raise unknown_name("column", name, known)
    return known[name]


def meanings(columns: Sequence[Column]) -> list[str]:
    """Returns the notes on columns, of those that need one."""
    return [column.note for column in columns if column.note]


def to_csv(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns the frame as CSV, unrounded: the chosen columns with their intervals, or all of it."""
    if columns is None:
        return frame.to_csv(index=False)
    names = ["setting", *(name for column in columns for name in (*column.keys, *column.also))]
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
            key, ascending = sort.keys[0], sort.is_ascending
            block = block.sort_values(key, ascending=ascending, kind="stable", na_position="last")
        if by_family:
            order = [*FAMILIES].index
            block = block.sort_values("family", key=lambda column: column.map(order), kind="stable")
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True) if blocks else frame
