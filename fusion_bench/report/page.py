"""One self-contained page: tables, interactive charts, environment and commands; it works offline."""

import base64
import html
import json
import math
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from fusion_bench.families import FAMILIES
from fusion_bench.report.columns import COLUMNS, Column, known_columns
from fusion_bench.report.findings import Findings
from fusion_bench.report.notes import notes
from fusion_bench.report.plots import pictures, plotly
from fusion_bench.report.plots.marks import Picture


def render_page(findings: Sequence[Findings]) -> str:
    """Returns the page; all that comes from run files is escaped."""
    drawn = {found.name: pictures(found) for found in findings}
    data = {f"{name}-{p.name}": plotly.chart(p) for name, section in drawn.items() for p in section}
    assets = resources.files("fusion_bench.report") / "assets"
    tables = resources.files("itables") / "html"
    style, page, script, styles = (
        path.read_text(encoding="utf-8")
        for path in (tables / "dt_bundle.css", *(assets / f"page.{end}" for end in ("html", "js", "css")))
    )
    bundle = base64.b64encode((tables / "dt_bundle.js").read_bytes()).decode()
    return Template(page).substitute(
        title=html.escape(_title(findings)),
        lead=html.escape(_lead(findings)),
        style=style + styles,
        navigation=_navigation(findings),
        sections="".join(_section(found, drawn[found.name]) for found in findings),
        environment=_environment(findings),
        plotly=get_plotlyjs(),
        imports=json.dumps({"imports": {"itables": f"data:text/javascript;base64,{bundle}"}}),
        data=_script_safe(json.dumps(data, allow_nan=False, separators=(",", ":"))),
        script=script,
    )


def _script_safe(text: str) -> str:
    """Returns JSON that ends no script element, whatever its strings hold."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _title(findings: Sequence[Findings]) -> str:
    firsts = [found.rows.iloc[0] for found in findings]
    names, captions = (", ".join(dict.fromkeys(str(f[key]) for f in firsts)) for key in ("dataset", "captions"))
    return f"Fusion of modalities on {names}: {captions}"


def _lead(findings: Sequence[Findings]) -> str:
    strategies = {name for found in findings for name in found.measured["strategy"]}
    runs = sum(run.status == "complete" for found in findings for run in found.block.runs)
    settings = f", {len(findings)} settings" if len(findings) > 1 else ""
    return f"{len(strategies)} strategies{settings}, {runs} complete runs."


def _navigation(findings: Sequence[Findings]) -> str:
    if len(findings) < 2:
        return ""
    links = "".join(f'<li><a href="#{found.name}">{html.escape(found.title)}</a></li>' for found in findings)
    return f'<nav aria-label="settings"><h2>Settings</h2><ul>{links}</ul></nav>'


def _section(found: Findings, drawn: Sequence[Picture]) -> str:
    remarks = [
        *notes(found.rows),
        *(column.note for column in COLUMNS.values() if column.note),
        *(f"Left out: {line}." for line in found.omitted),
    ]
    listing = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    alone = [chart for chart in drawn if chart.chooser != "strategy"]
    chosen = [chart for chart in drawn if chart.chooser == "strategy"]
    figures = "".join(_chart(found, chart) for chart in alone)
    if chosen:
        figures += (
            f'<div class="together"><h3>One strategy</h3>{_chooser(found, chosen)}<div class="row">'
            f"{''.join(_chart(found, chart, chooser=False, level=4) for chart in chosen)}</div></div>"
        )
    return (
        f'<section id="{found.name}"><h2>{html.escape(found.title)}</h2>'
        f"{_table(found)}"
        f'<details open class="notes"><summary>What the numbers mean, and what they show</summary>'
        f"<ul>{listing}</ul></details>{figures}"
        f'<p class="files">For a paper, the same as PNG and SVG: <code>report/figures/{found.name}/</code></p>'
        "</section>"
    )


def _chart(found: Findings, picture: Picture, *, chooser: bool = True, level: int = 3) -> str:
    heading = f"<h{level}>{html.escape(picture.title)}</h{level}>"
    choice = _chooser(found, [picture]) if chooser and len(picture.shown) > 1 else ""
    wide = " wide" if picture.is_wide else ""
    return (
        f'<figure>{heading}{choice}<div class="scroll{wide}"><div class="chart" id="{found.name}-{picture.name}" '
        f'role="img" aria-label="{html.escape(picture.title)}" style="min-height:{picture.height}px"></div></div>'
        f"<figcaption>{html.escape(f'{picture.caption} {picture.hint}'.strip())}</figcaption></figure>"
    )


def _chooser(found: Findings, drawn: Sequence[Picture]) -> str:
    """Returns what changes some charts together."""
    names = " ".join(f"{found.name}-{picture.name}" for picture in drawn)
    options = "".join(f"<option>{html.escape(label)}</option>" for label in drawn[0].shown)
    return f'<label class="chooser">{drawn[0].chooser} <select data-charts="{names}">{options}</select></label>'


def _table(found: Findings) -> str:
    block = found.rows
    columns = [column for column in known_columns(block).values() if column.keys[0] in block]
    heads = "".join(_head(column, block) for column in columns)
    rows = "".join(_row(row, columns) for row in block.to_dict("records"))
    families = [family for family in FAMILIES if family in set(block["family"])]
    options = "".join(f"<option>{family}</option>" for family in families)
    table = f"table-{found.name}"
    return (
        f'<div class="table"><label class="chooser">family <select data-table="{table}"><option value="">all</option>'
        f'{options}</select></label><div class="scroll"><table id="{table}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _head(column: Column, block: pd.DataFrame) -> str:
    first = "asc" if column.ascending else "desc"
    marks = " data-hidden" * (not column.on_page) + " data-number" * (not column.is_text)
    title = html.escape(column.title(block))
    return f'<th scope="col" data-name="{column.name}" data-first="{first}"{marks}>{title}</th>'


def _row(row: dict[Any, Any], columns: Sequence[Column]) -> str:
    cells = []
    for column in columns:
        shown = html.escape(column.cell(row))
        if column.name == "accuracy" and row["ties_best"]:
            shown = f"<strong>{shown}</strong>"
        order = "" if column.is_text else f' data-order="{_order(row[column.keys[0]], column)}"'
        is_name = column.name == "strategy"
        cells.append(f'<th scope="row">{shown}</th>' if is_name else f"<td{order}>{shown}</td>")
    return f'<tr data-family="{row["family"]}">{"".join(cells)}</tr>'


def _order(value: Any, column: Column) -> str:
    """Returns what a cell is sorted by; what is missing comes last where the best comes first."""
    if pd.isna(value) or math.isinf(value):
        return "1e300" if column.ascending else "-1e300"
    return repr(float(value))


_FACTS = {"device": "device", "fusion_bench": "version", "commit": "commit", "python": "python", "packages": "packages"}


def _environment(findings: Sequence[Findings]) -> str:
    environments = [run.environment for found in findings for run in found.block.runs]
    terms = ""
    for name, key in _FACTS.items():
        values = sorted({_text(each.get(key)) for each in environments if each.get(key)})
        terms += f"<dt>{name}</dt>{''.join(f'<dd>{html.escape(value)}</dd>' for value in values)}" * bool(values)
    commands = Counter(str(each["command"]) for each in environments if each.get("command"))
    listing = "".join(
        f"<li><pre><code>{html.escape(command)}</code></pre> {count} run{'s' * (count != 1)}</li>"
        for command, count in commands.items()
    )
    return f'<dl>{terms}</dl><h3>Commands</h3><ul class="commands">{listing or "<li>none recorded</li>"}</ul>'


def _text(value: Any) -> str:
    return ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else str(value)
