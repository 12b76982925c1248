"""A table as text: for the terminal, as Markdown, as LaTeX."""

import dataclasses
import html
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$",
    "≥": r"$\geq$", "α": r"$\alpha$", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], sides: str = "") -> str:
    """Returns a Markdown table; "l" or "r" in `sides` for each column, else the first is on the left alone.

    Pipes, line breaks and HTML tags in cells become text; other marks of Markdown keep their meaning.
    """
    rules = ["---" if side == "l" else "--:" for side in sides or "l".ljust(len(header), "r")]
    cells = [[_one_line(cell).replace("|", r"\|") for cell in row] for row in (header, *rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (cells[0], rules, *cells[1:]))


@dataclasses.dataclass(frozen=True)
class Listing:
    """One table with its heading and notes.

    Attributes:
      header: headings of the columns, with line breaks for the terminal.
      rows: texts of the cells.
      sides: alignment of each column, "l" or "r".
      expendable: columns that a narrow terminal leaves out first, in this order; then the others from the right.
      is_whole: whether a narrow terminal leaves out none, but shows several tables, each with the first column.
      bold: (row, column) of each bold cell.
      pale: rows that a terminal dims.
      ends: rows with a rule below them.
    """

    heading: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    sides: str
    expendable: Sequence[int] = ()
    bold: Collection[tuple[int, int]] = ()
    pale: Collection[int] = ()
    ends: Collection[int] = ()
    is_whole: bool = False

    def to_markdown(self) -> str:
        table = markdown_table(self.header, self._marked("**{}**", self.rows), self.sides)
        remarks = "".join(f"- {_one_line(note)}\n" for note in self.notes)
        return f"### {_one_line(self.heading)}\n\n{table}\n{remarks}"

    def to_latex(self) -> str:
        """Returns a floating table, at most as wide as the text; it needs the packages booktabs and graphicx."""
        cells = [[_escape(cell) for cell in row] for row in self.rows]
        body = [" & ".join(row) + r" \\" for row in self._marked(r"\textbf{{{}}}", cells)]
        lines = "\n".join(line + "\n\\midrule" * (row in self.ends) for row, line in enumerate(body))
        label = re.sub("[^a-z0-9]+", "-", self.heading.lower()).strip("-")
        width = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
        return (
            "\\begin{table}\n\\centering\n"
            f"\\caption{{{_escape(self.heading)}}}\n\\label{{tab:{label}}}\n"
            f"\\resizebox{{{width}}}{{!}}{{%\n\\begin{{tabular}}{{{self.sides}}}\n\\toprule\n"
            f"{' & '.join(map(_escape, self._titles))} \\\\\n\\midrule\n"
            f"{lines}\n\\bottomrule\n\\end{{tabular}}}}\n\n"
            "\\smallskip\n\\begin{minipage}{\\linewidth}\n\\footnotesize\\raggedright\n"
            + "\n".join(map(_escape, self.notes))
            + "\n\\end{minipage}\n\\end{table}\n"
        )

    @property
    def _titles(self) -> list[str]:
        return [title.replace("\n", " ") for title in self.header]

    def _marked(self, form: str, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        """Returns the rows with bold cells in a format."""
        return [
            [form.format(cell) if (i, j) in self.bold else cell for j, cell in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yields the widest table that fits; in a narrow terminal several, or one without expendable columns."""
        parts, gap = self._arranged(options.max_width)
        yield from (Text(self.heading, style="bold"), Text())
        for part in parts:
            yield from (self._table(part, gap), Text())
        remarks = Table.grid(padding=(0, 1))
        for note in (*self._left_out(parts), *self.notes):
            remarks.add_row("·", Text(note), style="dim")
        yield remarks

    def _arranged(self, width: int) -> tuple[list[list[int]], int]:
        """Returns the columns of each table that a terminal of this width shows, and the gap between them."""
        widths = [max(map(cell_len, "\n".join(texts).split("\n"))) for texts in self._columns]

        def fits(columns: Sequence[int], gap: int) -> bool:
            return sum(widths[column] for column in columns) + (gap + 1) * (len(columns) - 1) <= width

        everything = [*range(len(widths))]
        for gap in (2, 1):
            if fits(everything, gap):
                return [everything], gap
        if self.is_whole:
            parts = [everything[:1]]
            for column in everything[1:]:
                if len(parts[-1]) > 1 and not fits([*parts[-1], column], 1):
                    parts.append(everything[:1])
                parts[-1].append(column)
            return parts, 1
        kept, order = everything, [*dict.fromkeys((*self.expendable, *reversed(everything[1:])))]
        for column in order[:-1]:
            kept = [other for other in kept if other != column]
            for gap in (1, 0):
                if fits(kept, gap):
                    return [kept], gap
        return [kept], 0

    def _left_out(self, parts: Sequence[Sequence[int]]) -> Iterator[str]:
        shown = {column for part in parts for column in part}
        names = [title for column, title in enumerate(self._titles) if column not in shown]
        if names:
            yield f"Columns that do not fit: {', '.join(names)}; a wider terminal or --format md shows them."

    @property
    def _columns(self) -> list[list[str]]:
        """The texts of each column in a terminal, the heading first."""
        columns = []
        for place, title in enumerate(self.header):
            cells = [row[place] for row in self.rows]
            short = title.replace("examples/s", "ex./s").replace("parameters", "params")
            columns.append([short, *(_aligned(cells) if any(" ± " in cell for cell in cells) else cells)])
        return columns

    def _table(self, shown: Sequence[int], gap: int) -> Table:
        """Returns the table of some columns; only names in the first one may be folded."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
        columns = self._columns
        for place in shown:
            title, *cells = columns[place]
            side: Literal["left", "right"] = "left" if self.sides[place] == "l" else "right"
            # rich would drop the spaces at the right end that stand for an interval
            justify = "left" if any(" ± " in cell for cell in cells) else side
            style = "dim" if title == "family" else ""
            table.add_column(
                Text(title, justify=side), justify=justify, no_wrap=place > 0, overflow="fold", style=style
            )
        for row in range(len(self.rows)):
            texts = [
                Text(columns[place][row + 1], style="bold" if (row, place) in self.bold else "") for place in shown
            ]
            table.add_row(*texts, style="dim" if row in self.pale else "", end_section=row in self.ends)
        return table


def _aligned(cells: Sequence[str]) -> list[str]:
    """Pads "mean ± half width" so that means stand below means, with or without an interval."""
    parts = [cell.partition(" ± ") for cell in cells]
    left, right = (max(len(part[side]) for part in parts) for side in (0, 2))
    return [f"{mean:>{left}}{sign or '   ' * bool(right)}{width:>{right}}" for mean, sign, width in parts]


def _one_line(text: str) -> str:
    """Returns a text of Markdown without line breaks, and with tags and entities of HTML as they are written."""
    return re.sub(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)", lambda match: html.escape(match[0]), " ".join(text.split()))


def _escape(text: str) -> str:
    """Returns plain text in LaTeX, in one line."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], " ".join(text.split()))
