"""A table as Markdown and as LaTeX: heading, cells, notes below."""

import re
from collections.abc import Collection, Sequence


def markdown_section(
    heading: str, header: Sequence[str], rows: Sequence[Sequence[str]], alignment: str, notes: Sequence[str]
) -> str:
    """Returns a section with one table.

    Args:
      heading: above it.
      header: of the columns.
      rows: cells, in which Markdown may stand.
      alignment: "l" or "r" for each column.
      notes: below it.
    """
    rule = ["---" if side == "l" else "--:" for side in alignment]
    lines = (
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
        for line in (header, rule, *rows)
    )
    remarks = "\n".join(f"- {note}" for note in notes)
    return "\n".join([f"### {heading}", "", *lines, "", remarks, ""])


def latex_table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    alignment: str,
    notes: Sequence[str],
    section_ends: Collection[int] = (),
) -> str:
    """Returns a floating table, no wider than the line, for the packages booktabs and graphicx.

    Args:
      caption: plain text; its letters and digits make the label, "tab:…".
      header: plain text.
      rows: cells in LaTeX.
      alignment: "l" or "r" for each column.
      notes: plain text.
      section_ends: rows below which there is a rule.
    """
    lines = []
    for number, cells in enumerate(rows):
        lines.append(" & ".join(cells) + r" \\")
        if number in section_ends:
            lines.append(r"\midrule")
    body, remarks = "\n".join(lines), "\n".join(map(escape_latex, notes))
    label = re.sub("[^a-z0-9]+", "-", caption.lower()).strip("-")
    width = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape_latex(caption)}}}\n\\label{{tab:{label}}}\n"
        f"\\resizebox{{{width}}}{{!}}{{%\n\\begin{{tabular}}{{{alignment}}}\n\\toprule\n"
        f"{' & '.join(map(escape_latex, header))} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}}}\n\n"
        f"\\smallskip\n\\begin{{minipage}}{{\\linewidth}}\n\\footnotesize\\raggedright\n{remarks}\n"
        "\\end{minipage}\n\\end{table}\n"
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Returns plain text in LaTeX."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)
