"""The table as people read it: Markdown, LaTeX, and the terminal."""

from collections.abc import Iterator, Sequence

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fusion_bench.report.columns import ACCURACY, Column, default_columns, meanings
from fusion_bench.report.markup import escape_latex, latex_table, markdown_section
from fusion_bench.report.notes import heading, notes
from fusion_bench.store import Store


def to_markdown(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns a section for each setting: heading, table, notes; the usual columns if none are given."""
    columns = columns or default_columns(frame)
    sections = []
    for block in _blocks(frame):
        header, rows = _cells(block, columns)
        for row in _winners(block) if ACCURACY in header else ():
            rows[row][header.index(ACCURACY)] = f"**{rows[row][header.index(ACCURACY)]}**"
        remarks = [*notes(block), *meanings(columns)]
        sections.append(markdown_section(heading(block), header, rows, _alignment(columns), remarks))
    return "\n".join(sections)


def to_latex(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> str:
    """Returns a floating table for each setting, as wide as the text; needs the packages booktabs and graphicx."""
    columns = columns or default_columns(frame)
    return "\n".join(_latex_table(block, columns) for block in _blocks(frame))


def to_rich(frame: pd.DataFrame, columns: Sequence[Column] | None = None) -> "TerminalTable":
    """Returns what a rich console prints; the usual columns fit 80 characters, and show more in 100."""
    return TerminalTable(frame, columns or default_columns(frame))


def write_tables(store: Store, frame: pd.DataFrame) -> None:
    """Writes table.csv and table.md into the store's directory, each whole or not at all.

    Raises:
      UserError: the directory cannot be written to.
    """
    texts = {"table.csv": frame.to_csv(index=False, float_format="%.6g"), "table.md": to_markdown(frame)}
    for name, text in texts.items():
        store.publish(name, text)


class TerminalTable:
    """The table for a terminal, as wide as the terminal allows."""

    def __init__(self, frame: pd.DataFrame, columns: Sequence[Column]):
        self.frame = frame
        self.columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for number, block in enumerate(_blocks(self.frame)):
            if number:
                yield Text()
            yield Text(heading(block), style="bold")
            yield Text()
            yield _fitting_table(block, self.columns, console, options)
            yield Text()
            remarks = Table.grid(padding=(0, 1))
            for note in [*notes(block), *meanings(self.columns)]:
                remarks.add_row("·", note, style="dim")
            yield remarks


_SHORT = {
    ACCURACY: "test\naccuracy, %",
    "parameters": "params",
    "train MFLOP": "train\nMFLOP",
    "train examples/s": "train\nex./s",
    "test examples/s": "test\nex./s",
    "compile s": "compile\ns",
    "balanced accuracy, %": "balanced\naccuracy, %",
    "sampling ±, points": "sampling\n±, points",
    "gain's sampling ±": "gain's\nsampling ±",
    "test MFLOP": "test\nMFLOP",
}
_WORDS = ("strategy", "family")


def _blocks(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the rows of each setting."""
    for _, block in frame.groupby("setting", sort=False):
        yield block.reset_index(drop=True)


def _cells(block: pd.DataFrame, columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of a block as text."""
    records = block.to_dict("records")
    return [column.title(block) for column in columns], [[c.cell(row) for c in columns] for row in records]


def _winners(block: pd.DataFrame) -> list[int]:
    """Returns the rows of the best multimodal test accuracy and of all that are not shown to differ from it."""
    return [row for row, ties in enumerate(block["ties_best"]) if ties]


def _section_ends(block: pd.DataFrame) -> set[int]:
    """Returns the last row of each family, if every family's rows are together."""
    families = list(block["family"])
    ends = {i for i in range(len(families) - 1) if families[i] != families[i + 1]}
    return ends if len(ends) < len(set(families)) else set()


def _fitting_table(
    block: pd.DataFrame, columns: Sequence[Column], console: Console, options: ConsoleOptions
) -> Table:
    """Returns the roomiest table that fits; its rows are apart by family even without the families' names."""
    layouts = [
        _rich_table(block, columns, gap, family)
        for gap, family in ((2, True), (1, True), (1, False), (0, False))
    ]
    boundless = options.update(width=1000)
    widths = [Measurement.get(console, boundless, layout).maximum for layout in layouts]
    return next(
        (t for t, width in zip(layouts, widths, strict=True) if width <= options.max_width), layouts[-1]
    )


def _rich_table(block: pd.DataFrame, columns: Sequence[Column], gap: int, with_family: bool) -> Table:
    shown = [column for column in columns if with_family or column.name != "family"]
    header, rows = _cells(block, shown)
    cells = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    listing = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for name, column in cells.items():
        justify = "left" if name in _WORDS else "right"
        title = Text(_SHORT.get(name, name.replace(" over ", " over\n")), justify=justify)
        if any(" ± " in cell for cell in column):
            cells[name] = _aligned(column)
            justify = "left"  # rich would drop the spaces that stand for an interval
        style = "dim" if name == "family" else ""
        fold = name == "strategy"
        listing.add_column(title, justify=justify, no_wrap=not fold, overflow="fold", style=style)
    winners, ends = _winners(block), _section_ends(block)
    for number, family in enumerate(block["family"]):
        texts = {name: Text(column[number]) for name, column in cells.items()}
        if number in winners and ACCURACY in texts:
            texts[ACCURACY].stylize("bold")
        style = "dim" if family == "ceiling" else ""
        listing.add_row(*texts.values(), style=style, end_section=number in ends)
    return listing


def _aligned(cells: Sequence[str]) -> list[str]:
    """Pads "mean ± half width" so that means stand below means, with or without an interval."""
    parts = [cell.partition(" ± ") for cell in cells]
    left, right = (max(len(part[side]) for part in parts) for side in (0, 2))
    return [
        f"{mean:>{left}}{sign or '   ' * bool(right)}{half_width:>{right}}"
        for mean, sign, half_width in parts
    ]


def _latex_table(block: pd.DataFrame, columns: Sequence[Column]) -> str:
    header, rows = _cells(block, columns)
    winners, ends = _winners(block), _section_ends(block)
    escaped = [[escape_latex(cell) for cell in row] for row in rows]
    for row in winners if ACCURACY in header else ():
        position = header.index(ACCURACY)
        escaped[row][position] = rf"\textbf{{{escaped[row][position]}}}"
    remarks = [*notes(block), *meanings(columns)]
    return latex_table(heading(block), header, escaped, _alignment(columns), remarks, ends)


def _alignment(columns: Sequence[Column]) -> str:
    return "".join("l" if column.name in _WORDS else "r" for column in columns)
