"""A table of figures as text: for the terminal, as Markdown, as LaTeX."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fusion_bench.report.markup import escape_latex, latex_table, markdown_section

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


@dataclasses.dataclass(frozen=True)
class Listing:
    """One table.

    Attributes:
      heading: above it.
      header: of the columns; the first two are words, the others numbers.
      rows: cells.
      notes: below it: what the numbers are.
      expendable: columns that a narrow terminal does without, the first to go first.
    """

    heading: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    expendable: tuple[int, ...] = ()

    @property
    def alignment(self) -> str:
        return "ll" + "r" * (len(self.header) - 2)

    def to_markdown(self) -> str:
        return markdown_section(self.heading, self.header, self.rows, self.alignment, self.notes)

    def to_latex(self) -> str:
        """Returns a floating table; needs the packages booktabs and graphicx."""
        cells = [[escape_latex(cell) for cell in row] for row in self.rows]
        return latex_table(self.heading, self.header, cells, self.alignment, self.notes)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        columns = list(zip(self.header, *self.rows, strict=True))
        width = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
        width[0] = max(map(len, columns[0]))
        shown, left_out = list(range(len(columns))), []
        for column in self.expendable:
            if sum(width[c] + 1 for c in shown) > options.max_width:
                shown.remove(column)
                left_out.append(self.header[column])
        yield Text(self.heading, style="bold")
        yield Text()
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        for number in shown:
            side = self.alignment[number]
            title = self.header[number] if side == "l" else self.header[number].replace(" ", "\n")
            table.add_column(Text(title), justify="left" if side == "l" else "right")
        for row in self.rows:
            table.add_row(*(Text(row[number]) for number in shown))
        yield table
        yield Text()
        remarks = Table.grid(padding=(0, 1))
        notes = [*self.notes]
        if left_out:
            notes.append(f"Left out, for a wider terminal or --format md: {', '.join(reversed(left_out))}.")
        for note in notes:
            remarks.add_row("·", Text(note), style="dim")
        yield remarks


def count(value: float) -> str:
    """Returns a number with three significant digits, with separators: 12,300 or 0.0123."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def optional(value: float | int | None, form: Callable[[float], str] = count) -> str:
    """Returns a number, or a dash where there is none."""
    return "–" if value is None else form(value)
