"""The columns of the table: how each is computed, and what people read."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from fusion_bench.errors import UserError, unknown_name
from fusion_bench.metrics.calibration import BINS
from fusion_bench.metrics.classification import LOWER_IS_BETTER, METRICS
from fusion_bench.metrics.intervals import t_interval
from fusion_bench.report import cells
from fusion_bench.report.block import Row
from fusion_bench.report.notes import best_of, is_off_target
from fusion_bench.report.text import optional, percent, points


@dataclasses.dataclass(frozen=True)
class Column:
    """One column, of the frame alone if it has no heading.

    Attributes:
      name: on the command line, and in the frame where `keys` names no others.
      compute: its value of a row; as many values as it has keys.
      heading: with line breaks for the terminal; "{best}" stands for the strategy that gains are measured against.
      form: its values as text.
      keys: in the frame; the rows are sorted by the first.
      also: other keys of the frame that a CSV of chosen columns adds.
      note: a sentence for below the table.
      place: among the columns that people read; equal ones are in the order of the list.
      importance: where a terminal has no room for all columns, the least important one goes first.
      matched: the quantity that it shows, "params" or "flops"; a star marks a row that misses its target.
      ascending: whether the best value is the lowest.
      detail: whether it is computed from stored logits.
      default: whether a table shows it without being asked; on_page: whether the page shows it at first.
    """

    name: str
    compute: Callable[[Row], Any]
    heading: str = ""
    form: Callable[..., str] = str
    keys: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    note: str = ""
    place: int = 9
    importance: int = 3
    matched: str = ""
    integer: bool = False
    ascending: bool = False
    detail: bool = False
    default: bool = False
    on_page: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", self.keys or (self.name,))

    @property
    def is_text(self) -> bool:
        return self.form is str

    def values(self, row: Row) -> Sequence[Any]:
        """Returns its values of a row, one a key."""
        return self.compute(row) if len(self.keys) > 1 else [self.compute(row)]

    def cell(self, row: Mapping[Hashable, Any]) -> str:
        """Returns its text of a row of the frame."""
        text = self.form(*(row[key] for key in self.keys))
        return text + "*" if self.matched and row["match"] == self.matched and is_off_target(row) else text

    def title(self, block: pd.DataFrame) -> str:
        """Returns its heading for a block of the frame."""
        return self.heading.format(best=best_of(block) or "?")


def value_column(name: str) -> Column:
    """Returns the column of a diagnostic's value: its mean and interval over seeds, NAME_mean and NAME_ci95."""
    keys = f"{name}_mean", f"{name}_ci95"
    return Column(name, lambda r: t_interval([v[name] for v in r.diagnosed if name in v]), name, cells.decimal, keys)


def _metric(name: str, heading: str = "", form: Callable[..., str] = percent, note: str = "") -> Column:
    keys, ascending = (f"{name}_mean", f"{name}_ci95"), name in LOWER_IS_BETTER
    more: Any = {"note": note, "ascending": ascending, "detail": True}
    return Column(name, lambda r: t_interval([METRICS[name](*t) for t in r.tests]), heading, form, keys, **more)


def _cost(name: str, key: str, heading: str, form: Callable[..., str], place: int, **more: Any) -> Column:
    more = {"ascending": True} | more
    return Column(name, lambda row: row.cost(key), heading, form, (key,), place=place, **more)


def _fact(name: str, key: str = "", empty: Any = "", **more: Any) -> Column:
    return Column(name, lambda row: row.block.data.get(key or name, empty), **more)


def _setting(name: str, key: str, empty: Any = "", **more: Any) -> Column:
    return Column(name, lambda row: row.block.setting.get(key, empty) if row.runs else empty, **more)


def _environment(name: str) -> Column:
    return Column(
        name, lambda row: ", ".join(sorted({run.environment.get(name) or "" for run in row.block.runs} - {""}))
    )


_NONE = math.nan
ALL: tuple[Column, ...] = (
    Column("strategy", lambda row: row.name, "strategy", place=0, ascending=True, default=True, on_page=True),
    Column(
        "family", lambda row: row.family, "family", place=0, importance=1, ascending=True, default=True, on_page=True,
    ),
    Column("n_seeds", lambda row: len(row.complete), integer=True),
    Column("n_failed", lambda row: len(row.runs) - len(row.complete), integer=True),
    _cost(
        "params", "params", "parameters", lambda value: optional(value, ","), 2, importance=5, matched="params",
        integer=True, default=True, on_page=True,
    ),
    Column(
        "accuracy", cells.accuracy, "test\naccuracy, %", percent, ("test_accuracy_mean", "test_accuracy_ci95"), place=1,
        importance=9, default=True, on_page=True,
    ),
    Column(
        "gain", lambda row: row.over(row.block.best), "gain over\n{best}", points, ("gain_mean", "gain_ci95"),
        also=("gain_over",), place=1, importance=8, default=True, on_page=True,
    ),
    Column(
        "p", lambda row: row.block.gain_p.get(row.name, _NONE), "p (Holm)", cells.p_text, ("gain_p",), place=1,
        importance=7, ascending=True, on_page=True,
        note="p: of the paired t-test of the gain over seeds, Holm-corrected over the rows shown.",
    ),
    Column("gain_over", lambda row: row.block.best if row.runs else ""),
    Column("ties_best", lambda row: row.name in row.block.ties),
    Column(
        "rank", lambda row: row.block.ranks.get(row.name, (None, None, None)), "rank", cells.rank_text,
        ("rank", "rank_low", "rank_high"), place=1, importance=6, integer=True, ascending=True, on_page=True,
        note="Rank: by mean accuracy, with its confidence interval (95 % for all ranks simultaneously) in brackets.",
    ),
    Column("detectable_gain", lambda row: row.power[0][0]),
    Column("detectable_gain_corrected", lambda row: row.power[1][0]),
    Column("seeds_for_a_point", lambda row: row.power[0][1], integer=True),
    Column("seeds_for_a_point_corrected", lambda row: row.power[1][1], integer=True),
    Column("baseline_kind", lambda row: row.kind),
    Column("baseline", lambda row: row.baseline),
    Column("", lambda row: row.over(row.baseline), keys=("baseline_gain_mean", "baseline_gain_ci95")),
    Column("", lambda row: row.over(row.block.reference), keys=("reference_gain_mean", "reference_gain_ci95")),
    Column("reference_p", lambda row: row.block.reference_p.get(row.name, _NONE)),
    Column("validation_accuracy_mean", cells.validation_accuracy),
    _cost("train_rate", "train_examples_per_s", "train\nexamples/s", optional, 4, ascending=False, default=True),
    _cost(
        "test_rate", "inference_examples_per_s", "test\nexamples/s", optional, 4, importance=4, ascending=False,
        default=True, on_page=True,
    ),
    _cost("latency", "latency_s", "latency, ms", cells.scaled(".3f", 1e3), 4),
    _cost("compile", "compile_s", "compile\ns", cells.scaled(".1f"), 6, importance=2, default=True),
    _cost(
        "train_flops", "train_flops", "train\nMFLOP", cells.scaled(".3f", 1e-6), 3, importance=5, matched="flops",
        on_page=True,
    ),
    _cost("test_flops", "inference_flops", "test\nMFLOP", cells.scaled(".3f", 1e-6), 3),
    _cost("train_seconds", "train_seconds", "train s", cells.scaled(".1f"), 5, on_page=True),
    _setting("match", "match.quantity"),
    _setting("match_to", "match.to"),
    _setting("match_target", "match.target", _NONE),
    Column("match_ratio", cells.match_ratio),
    Column("tune", lambda row: row.block.setting.get("tune", 0)),
    Column("learning_rate", lambda row: row.trained_with("learning_rate")),
    Column("weight_decay", lambda row: row.trained_with("weight_decay")),
    _fact("dataset", "name"),
    _fact("description"),
    Column("data_notes", lambda row: " ".join(row.block.data.get("notes", ()))),
    Column("augmented", cells.augmented),
    Column("misalign", lambda row: row.block.setting.get("data.misalign", 0.0)),
    Column("missing", lambda row: row.block.setting.get("data.missing", 0.0)),
    Column("damage", cells.damage),
    _fact("captions"),
    _fact("bits", empty=_NONE),
    _fact("interaction_bits", empty=_NONE),
    Column("encoder", lambda row: row.block.setting.get("model.encoder", "")),
    Column("epochs", lambda row: row.block.setting.get("training.epochs"), integer=True),
    *(_fact(name, empty=None, integer=True) for name in ("n_train", "n_validation", "n_test")),
    *map(_environment, ("device", "version", "commit", "plugins")),
    Column("cores", cells.cores),
    Column("setting", lambda row: row.block.digest),
    Column("differs", lambda row: row.block.differs),
    Column("failures", cells.failures),
    _metric("accuracy"),
    _metric("balanced_accuracy", "balanced\naccuracy, %"),
    _metric("macro_f1", "macro F1, %"),
    _metric("roc_auc", "ROC AUC, %", note="ROC AUC: each class against the others, mean over classes."),
    _metric("nll", "NLL, nats", cells.decimal),
    _metric(
        "brier", "Brier score", cells.decimal,
        "Brier score: squared errors of the class probabilities, their sum over classes, 0 to 2.",
    ),
    _metric("ece", "ECE, %", note=f"ECE: expected calibration error, in {BINS} bins of confidence."),
    Column(
        "sampling", cells.sampling,
        "sampling\n±, points", cells.scaled(".2f", 1e2), ("sampling_ci95",), ascending=True, detail=True,
        note="Sampling ±: half the 95 % interval of the accuracy over test sets, by a bootstrap over images; Wilson's "
        "interval at 0 and 100 %.",
    ),
    Column(
        "gain_sampling", cells.gain_sampling, "gain's\nsampling ±", cells.scaled(".2f", 1e2), ("gain_sampling_ci95",),
        ascending=True, detail=True,
        note="Gain's sampling ±: half the 95 % interval of the gain over test sets, in points, by a bootstrap over "
        "images.",
    ),
)  # fmt: skip
"""All columns in the order of a CSV.

Gains are paired by seed, and NaN for the strategy that they are measured against, `gain_over`. `ties_best`: the best
multimodal mean, and those not significantly different. `detectable_gain`: the true gain that a paired t-test over these
seeds detects with 80 % power; `seeds_for_a_point`: the seeds that detect one percentage point, empty above a thousand;
`_corrected`: after Holm's correction. `baseline`: the best unimodal strategy of the row's own kind of encoder,
`baseline_kind`. `match_ratio`: a matched quantity over its target. Costs are medians over seeds, or measured once.
"""
COLUMNS = {column.name: column for column in sorted(ALL, key=lambda column: column.place) if column.heading}
"""The columns that people read, in order."""


def known_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Returns all columns that people may read, with those of further values in a frame."""
    listed = {key for column in ALL for key in column.keys}
    names = [str(key).removesuffix("_mean") for key in frame if key not in listed]
    return COLUMNS | {name: value_column(name) for name in names if f"{name}_ci95" in frame}


def default_columns(frame: pd.DataFrame) -> list[Column]:
    """Returns the usual columns, with FLOPs where they were matched."""
    by_flops = any(frame["match"] == "flops")
    return [c for c in COLUMNS.values() if c.default or (by_flops and c.matched == "flops")]


def needs_logits(names: Iterable[str | None]) -> bool:
    """Returns whether one of these columns is computed from stored logits; "all" stands for every one."""
    return any(name == "all" or (name in COLUMNS and COLUMNS[name].detail) for name in names)


def choose_columns(names: Sequence[str], known: Mapping[str, Column] = COLUMNS) -> list[Column]:
    """Returns the columns of these names; "all" stands for every one. The strategy's name always leads.

    Raises:
      UserError: a name is unknown, or there is none.
    """
    if not names:
        raise UserError(f"no column is named; choose from {', '.join(known)}")
    return [find_column(name, known) for name in dict.fromkeys(["strategy", *(known if "all" in names else names)])]


def find_column(name: str, known: Mapping[str, Column] = COLUMNS) -> Column:
    """Returns the column of this name.

    Raises:
      UserError: there is none.
    """
    if name not in known:
        raise unknown_name("column", name, known)
    return known[name]
