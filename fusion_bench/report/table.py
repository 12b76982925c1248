"""The table of a study as a frame: a row for each strategy, a block for each setting."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fusion_bench.families import FAMILIES
from fusion_bench.report.block import blocks
from fusion_bench.report.columns import ALL, Column, value_column
from fusion_bench.store import Store


def table(store: Store, *, against: str = "", details: bool = False, diagnostic: str = "*") -> pd.DataFrame:
    """Returns the table of all runs, with the columns that `columns` lists, and those of stored diagnostics.

    Accuracies and gains are fractions, not percent; an interval is half its width, NaN for fewer than two seeds. The
    family "reference" is the Bayes reference; "ceiling" rows are exact and have no seeds.

    Args:
      store: its runs.
      against: the strategy that gains are over; the best unimodal one if empty.
      details: add the columns that are computed from stored logits.
      diagnostic: label of the only one whose values are columns; "*" for all. Diagnostics that differ in options have
        values of the same names.

    Raises:
      UserError: no run is of `against`, or a run's logits cannot be read.
    """
    rows = [row for block in blocks(store, against, diagnostic).values() for row in block.rows.values()]
    diagnosed = sorted({name for row in rows for values in row.diagnosed for name in values})
    columns = [column for column in ALL if details or not column.detail] + [*map(value_column, diagnosed)]
    values = [[value for column in columns for value in column.values(row)] for row in rows]
    frame = pd.DataFrame(values, columns=pd.Index([key for column in columns for key in column.keys]))
    frame = frame.astype({key: "Int64" for column in columns if column.integer for key in column.keys})
    blockwise = ["dataset", "captions", "misalign", "missing", "encoder", "epochs", "setting"]
    keys: Any = frame[[*blockwise, "family", "baseline_kind", "strategy"]]
    keys = keys.assign(family=keys["family"].map([*FAMILIES].index))
    return frame.loc[keys.sort_values([*keys], kind="stable").index].reset_index(drop=True)


def to_csv(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns the frame as CSV, unrounded: the chosen columns with their intervals, or all of it."""
    if columns is None:
        return frame.to_csv(index=False)
    names = ["setting", *(name for column in columns for name in (*column.keys, *column.also))]
    return frame[list(dict.fromkeys(names))].to_csv(index=False)


def arrange(frame: pd.DataFrame, sort: Column | None, *, by_family: bool = True) -> pd.DataFrame:
    """Returns the rows sorted by a column, the best value first, missing ones last; None leaves their order.

    Settings stay together, and families unless `by_family` is false.
    """
    order = {"_setting": pd.factorize(frame["setting"])[0]}
    order |= {"_family": frame["family"].map([*FAMILIES].index)} if by_family else {}
    ascending = [True] * len(order) + ([] if sort is None else [sort.ascending])
    order |= {} if sort is None else {"_value": frame[sort.keys[0]]}
    keys = pd.DataFrame(order, index=frame.index).sort_values([*order], ascending=ascending, kind="stable")
    return frame.loc[keys.index].reset_index(drop=True)
