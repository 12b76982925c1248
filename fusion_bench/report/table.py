"""The table of a study as a frame: a row for each strategy, a block for each setting."""

import pandas as pd

from fusion_bench.families import FAMILIES
from fusion_bench.report.block import blocks
from fusion_bench.report.columns import ALL
from fusion_bench.store import Store


def table(store: Store, *, against: str = "", details: bool = False) -> pd.DataFrame:
    """Returns the table of all runs, with the columns that `columns` lists; its rows are sorted by family.

    Accuracies and gains are fractions, not percent; an interval is half its width, NaN for fewer than two seeds. The
    family "reference" is the Bayes reference; "ceiling" rows are exact and have no seeds.

    Args:
      store: its runs.
      against: the strategy that gains are over; the best unimodal one if empty.
      details: add the columns that are computed from stored logits: every metric, and half the widths of the intervals
        of the test set's sampling, for the accuracy and for the gain.

    Raises:
      UserError: no run is of `against`, or a run's logits cannot be read.
    """
    columns = [column for column in ALL if details or not column.is_detail]
    rows = [row for block in blocks(store, against).values() for row in block.rows.values()]
    records = [
        {key: value for column in columns for key, value in column.values(row).items()} for row in rows
    ]
    frame = pd.DataFrame(records, columns=pd.Index([key for column in columns for key in column.keys]))
    frame = frame.astype({key: "Int64" for column in columns if column.is_count for key in column.keys})
    frame = frame.assign(order=frame["family"].map([*FAMILIES].index))
    blockwise = ["dataset", "captions", "encoder", "epochs", "setting", "order", "baseline_kind", "strategy"]
    return frame.sort_values(blockwise, kind="stable", ignore_index=True).drop(columns="order")
