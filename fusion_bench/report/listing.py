"""A table as text: for the terminal, as Markdown, as LaTeX."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$",
    "≥": r"$\geq$", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Listing:
    """One table with its heading and notes.

    Attributes:
      header: headings of the columns, with line breaks for the terminal.
      rows: texts of the cells.
      sides: alignment of each column, "l" or "r".
      expendable: columns that a narrow terminal leaves out, in this order.
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

    def to_markdown(self) -> str:
        rules = ["---" if side == "l" else "--:" for side in self.sides]
        rows = [self._titles, rules, *self._marked("**{}**", self.rows)]
        texts = (" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows)
        lines = "\n".join(f"| {text} |" for text in texts)
        remarks = "\n".join(f"- {note}" for note in self.notes)
        return f"### {self.heading}\n\n{lines}\n\n{remarks}\n"

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
        """Yields the widest table that fits, without expendable columns if there is no room for them."""
        fewer = [(gap, count) for count in range(1, len(self.expendable) + 1) for gap in (1, 0)]
        for gap, count in ((2, 0), (1, 0), *fewer):
            table = self._table(gap, self.expendable[:count])
            if Measurement.get(console, options.update(width=1000), table).maximum <= options.max_width:
                break
        notes = [*self.notes]
        if count > 1:
            left_out = ", ".join(self._titles[column] for column in sorted(self.expendable[:count]))
            notes.append(f"Columns that need a wider terminal or another format: {left_out}.")
        remarks = Table.grid(padding=(0, 1))
        for note in notes:
            remarks.add_row("·", Text(note), style="dim")
        yield from (Text(self.heading, style="bold"), Text(), table, Text(), remarks)

    def _table(self, gap: int, without: Collection[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
        columns = []
        for place, title in enumerate(self.header):
            if place in without:
                continue
            cells, justify = [row[place] for row in self.rows], "left" if self.sides[place] == "l" else "right"
            heading = Text(title.replace("examples/s", "ex./s").replace("parameters", "params"), justify=justify)
            if any(" ± " in cell for cell in cells):
                cells, justify = (_aligned(cells), "left")  # rich would drop the spaces that stand for an interval
            style = "dim" if title == "family" else ""
            table.add_column(heading, justify=justify, no_wrap=place > 0, overflow="fold", style=style)
            columns.append((place, cells))
        for row in range(len(self.rows)):
            texts = [Text(cells[row], style="bold" if (row, place) in self.bold else "") for place, cells in columns]
            table.add_row(*texts, style="dim" if row in self.pale else "", end_section=row in self.ends)
        return table


def _aligned(cells: Sequence[str]) -> list[str]:
    """Pads "mean ± half width" so that means stand below means, with or without an interval."""
    parts = [cell.partition(" ± ") for cell in cells]
    left, right = (max(len(part[side]) for part in parts) for side in (0, 2))
    return [f"{mean:>{left}}{sign or '   ' * bool(right)}{width:>{right}}" for mean, sign, width in parts]


def _escape(text: str) -> str:
    """Returns plain text in LaTeX."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)
