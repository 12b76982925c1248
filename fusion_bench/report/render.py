"""The table as people read it: Markdown, LaTeX, and the terminal."""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fusion_bench.report.notes import (
    MISSING,
    MULTIMODAL,
    best_of,
    heading,
    is_off_target,
    notes,
    percent,
    points,
)
from fusion_bench.store import Store

_ACCURACY = "test accuracy, %"


def to_markdown(frame: pd.DataFrame) -> str:
    """Returns a section for each setting: heading, table, notes."""
    sections = []
    for block in _blocks(frame):
        header, rows = _cells(block)
        winner = _winner(block)
        if winner is not None:
            rows[winner][header.index(_ACCURACY)] = f"**{rows[winner][header.index(_ACCURACY)]}**"
        lines = [header, ["---", "---", *["--:"] * (len(header) - 2)], *rows]
        listing = "\n".join(f"| {' | '.join(_escape_markdown(cell) for cell in line)} |" for line in lines)
        remarks = "\n".join(f"- {note}" for note in notes(block))
        sections.append(f"### {heading(block)}\n\n{listing}\n\n{remarks}\n")
    return "\n".join(sections)


def to_latex(frame: pd.DataFrame) -> str:
    """Returns a floating table for each setting; needs the package booktabs."""
    return "\n".join(_latex_table(block) for block in _blocks(frame))


def to_rich(frame: pd.DataFrame) -> "TerminalTable":
    """Returns what a rich console prints; it fits 80 columns, and shows more in 100."""
    return TerminalTable(frame)


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

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for number, block in enumerate(_blocks(self.frame)):
            if number:
                yield Text()
            yield Text(heading(block), style="bold")
            yield Text()
            yield _fitting_table(block, console, options)
            yield Text()
            remarks = Table.grid(padding=(0, 1))
            for note in notes(block):
                remarks.add_row("·", note, style="dim")
            yield remarks


_SHORT = {
    _ACCURACY: "test\naccuracy, %",
    "parameters": "params",
    "train MFLOP": "train\nMFLOP",
    "train examples/s": "train\nex./s",
    "test examples/s": "test\nex./s",
    "compile s": "compile\ns",
}


def _blocks(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the rows of each setting."""
    for _, block in frame.groupby("setting", sort=False):
        yield block.reset_index(drop=True)


def _cells(block: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of a block as text."""
    best = best_of(block)
    header = ["strategy", "family", _ACCURACY, f"gain over {best}" if best else "gain", "parameters"]
    by_flops = any(block["match"] == "flops")
    header += [*["train MFLOP"] * by_flops, "train examples/s", "test examples/s", "compile s"]
    rows = [
        [
            row["strategy"],
            row["family"],
            percent(row["test_accuracy_mean"], row["test_accuracy_ci95"]),
            points(row["gain_mean"], row["gain_ci95"]),
            MISSING if pd.isna(row["params"]) else f"{row['params']:,}" + _mark(row, "params"),
            *[_number(row["train_flops"] / 1e6, ".3f") + _mark(row, "flops")] * by_flops,
            _rate(row["train_examples_per_s"]),
            _rate(row["inference_examples_per_s"]),
            _number(row["compile_s"], ".1f"),
        ]
        for row in block.to_dict("records")
    ]
    return header, rows


def _mark(row: Mapping[Hashable, Any], quantity: str) -> str:
    """Returns a star for a figure that was to be matched and is not."""
    return "*" if row["match"] == quantity and is_off_target(row) else ""


def _rate(value: float) -> str:
    """Returns a rate with three significant digits."""
    return _number(value if math.isnan(value) else float(f"{value:.3g}"), ",.0f" if value >= 100 else ".3g")


def _number(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else format(value, form)


def _winner(block: pd.DataFrame) -> int | None:
    """Returns the row of the highest multimodal test accuracy, None if there is none."""
    fusions = block.loc[block["family"].isin(MULTIMODAL), "test_accuracy_mean"].dropna()
    return None if fusions.empty else int(fusions.idxmax())


def _fitting_table(block: pd.DataFrame, console: Console, options: ConsoleOptions) -> Table:
    """Returns the roomiest table that fits; its rows are apart by family even without the families' names."""
    layouts = [
        _rich_table(block, gap, family) for gap, family in ((2, True), (1, True), (1, False), (0, False))
    ]
    boundless = options.update(width=1000)
    widths = [Measurement.get(console, boundless, layout).maximum for layout in layouts]
    return next(
        (t for t, width in zip(layouts, widths, strict=True) if width <= options.max_width), layouts[-1]
    )


def _rich_table(block: pd.DataFrame, gap: int, with_family: bool) -> Table:
    header, rows = _cells(block)
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    if not with_family:
        del columns["family"]
    listing = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for name, cells in columns.items():
        justify = "left" if name in ("strategy", "family") else "right"
        title = Text(_SHORT.get(name, name.replace(" over ", " over\n")), justify=justify)
        if name == _ACCURACY or name.startswith("gain"):
            columns[name] = _aligned(cells)
            justify = "left"  # rich would drop the spaces that stand for an interval
        style = "dim" if name == "family" else ""
        fold = name == "strategy"
        listing.add_column(title, justify=justify, no_wrap=not fold, overflow="fold", style=style)
    winner, families = _winner(block), [*block["family"], None]
    for number, family in enumerate(families[:-1]):
        cells = {name: Text(column[number]) for name, column in columns.items()}
        if number == winner:
            cells[_ACCURACY].stylize("bold")
        style = "dim" if family == "ceiling" else ""
        listing.add_row(*cells.values(), style=style, end_section=families[number + 1] != family)
    return listing


def _aligned(cells: Sequence[str]) -> list[str]:
    """Pads "mean ± half width" so that means stand below means, with or without an interval."""
    parts = [cell.partition(" ± ") for cell in cells]
    left, right = (max(len(part[side]) for part in parts) for side in (0, 2))
    return [
        f"{mean:>{left}}{sign or '   ' * bool(right)}{half_width:>{right}}"
        for mean, sign, half_width in parts
    ]


def _latex_table(block: pd.DataFrame) -> str:
    header, rows = _cells(block)
    winner = _winner(block)
    families = list(block["family"])
    lines = []
    for number, cells in enumerate(rows):
        if number and families[number] != families[number - 1]:
            lines.append(r"\midrule")
        escaped = [_escape_latex(cell) for cell in cells]
        if number == winner:
            position = header.index(_ACCURACY)
            escaped[position] = rf"\textbf{{{escaped[position]}}}"
        lines.append(" & ".join(escaped) + r" \\")
    body = "\n".join(lines)
    remarks = "\n".join(_escape_latex(note) for note in notes(block))
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escape_latex(heading(block))}}}\n"
        f"\\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}\n\\toprule\n"
        f"{' & '.join(_escape_latex(name) for name in header)} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\n"
        f"\\footnotesize\n{remarks}\n\\end{{table}}\n"
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _escape_latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|")
