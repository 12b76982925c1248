"""The table as people read it: Markdown, LaTeX, and the terminal."""

import dataclasses
from collections.abc import Sequence

import pandas as pd
from rich.console import Group
from rich.text import Text

from fusion_bench.report.columns import Column, default_columns
from fusion_bench.report.listing import Listing
from fusion_bench.report.notes import heading, notes
from fusion_bench.store import Store


def to_markdown(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns a section for each setting: heading, table, notes; the usual columns if none are given."""
    return "\n".join(listing.to_markdown() for listing in _listings(frame, columns))


def to_latex(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns a floating table for each setting, as wide as the text; needs the packages booktabs and graphicx."""
    return "\n".join(listing.to_latex() for listing in _listings(frame, columns))


def to_rich(
    frame: pd.DataFrame, columns: Sequence[Column] | None = None, *, title: str = "", has_notes: bool = True
) -> Group:
    """Returns what a rich console prints, whole; of the usual columns a narrow one shows the most important ones.

    A title stands before the heading of each setting.
    """
    listings = [
        dataclasses.replace(
            listing,
            heading=f"{title}: {listing.heading}" if title else listing.heading,
            notes=listing.notes if has_notes else [],
        )
        for listing in _listings(frame, columns)
    ]
    first, *others = listings or [Text()]
    return Group(first, *(part for listing in others for part in (Text(), listing)))


def write_tables(store: Store, frame: pd.DataFrame) -> None:
    """Writes table.csv and table.md into the store's directory, each whole or not at all.

    Raises:
      UserError: the directory cannot be written to.
    """
    store.publish("table.csv", frame.to_csv(index=False, float_format="%.6g"))
    store.publish("table.md", to_markdown(frame))


def _listings(frame: pd.DataFrame, columns: Sequence[Column] | None) -> list[Listing]:
    is_whole, columns = columns is not None, columns or default_columns(frame)
    return [_listing(block, columns, is_whole) for _, block in frame.groupby("setting", sort=False)]


def _listing(block: pd.DataFrame, columns: Sequence[Column], is_whole: bool) -> Listing:
    rows, families = block.to_dict("records"), [*block["family"]]
    ends = {row for row in range(len(rows) - 1) if families[row] != families[row + 1]}
    names = [column.name for column in columns]
    best = names.index("accuracy") if "accuracy" in names else -1
    return Listing(
        heading(block),
        [column.title(block) for column in columns],
        [[column.cell(row) for column in columns] for row in rows],
        [*notes(block), *(column.note for column in columns if column.note)],
        "".join("l" if column.is_text else "r" for column in columns),
        expendable=sorted(range(1, len(columns)), key=lambda place: (columns[place].importance, -place)),
        bold={(row, best) for row, is_best in enumerate(block["ties_best"]) if is_best},
        pale={row for row, family in enumerate(families) if family == "ceiling"},
        ends=ends if len(ends) < len(set(families)) else set(),
        is_whole=is_whole,
    )
