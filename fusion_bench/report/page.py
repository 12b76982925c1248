"""Writes the report of a study: figures, and one self-contained page that works offline."""

import base64
import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from fusion_bench import files
from fusion_bench.errors import UserError
from fusion_bench.families import FAMILIES
from fusion_bench.report.columns import COLUMNS, Column, known_columns
from fusion_bench.report.findings import Findings, find
from fusion_bench.report.gallery import gallery
from fusion_bench.report.notes import headline, notes
from fusion_bench.report.plots import fonts, matplotlib, pictures, plotly
from fusion_bench.report.plots.marks import Picture
from fusion_bench.report.table import table
from fusion_bench.store import Store


def write_report(store: Store, *, against: str = "") -> tuple[Path, list[str]]:
    """Writes DIR/report/: index.html, and the figures of each setting as PNG and SVG; `against` as in `table`.

    Returns the path of the page, and one line for everything that could not be read and was left out.

    Raises:
      UserError: there is no run, no run of `against`, or the directory cannot be written to.
    """
    omitted = []
    try:
        frame = table(store, against=against, details=True)
    except UserError as error:
        frame = table(store, against=against)
        omitted.append(f"metrics from logits: {error}")
    if frame.empty:
        raise UserError(f"there is no complete run in {store.directory}")
    findings = find(store, frame)
    page = store.directory / "report" / "index.html"
    drawn = {found.name: pictures(found) for found in findings}
    text = render_page(findings, drawn)
    with files.explained(f"{page.parent} cannot be written"):
        for found in findings:
            for picture in drawn[found.name]:
                matplotlib.write(picture, page.parent / "figures" / found.name / picture.name, found.title)
        files.write_text(page, text)
    omitted += fonts.lacking(picture for section in drawn.values() for picture in section)
    return page, omitted + [line for found in findings for line in found.omitted]


def render_page(findings: Sequence[Findings], drawn: Mapping[str, Sequence[Picture]]) -> str:
    """Returns the page, with the pictures of each setting; all that comes from run files is escaped."""
    data = {f"{name}-{p.name}": plotly.chart(p) for name, section in drawn.items() for p in section}
    assets = resources.files("fusion_bench.report") / "assets"
    tables = resources.files("itables") / "html"
    style, page, script, styles = (
        path.read_text(encoding="utf-8")
        for path in (tables / "dt_bundle.css", *(assets / f"page.{end}" for end in ("html", "js", "css")))
    )
    firsts = pd.DataFrame([found.rows.iloc[0] for found in findings])
    names, captions = (", ".join(map(str, firsts[key].unique())) for key in ("dataset", "captions"))
    strategies = {name for found in findings for name in found.measured["strategy"]}
    runs = sum(run.status == "complete" for found in findings for run in found.block.runs)
    settings = f", {len(findings)} settings" if len(findings) > 1 else ""
    bundle = base64.b64encode((tables / "dt_bundle.js").read_bytes()).decode()
    return Template(page).substitute(
        title=html.escape(f"Multimodal fusion on {names}: {captions} captions"),
        lead=f"{len(strategies)} strategies{settings}, {runs} complete runs.",
        style=style + styles,
        navigation=_navigation(findings),
        sections="".join(_section(found, drawn[found.name]) for found in findings),
        environment=_environment(findings),
        plotly=get_plotlyjs(),
        imports=json.dumps({"imports": {"itables": f"data:text/javascript;base64,{bundle}"}}),
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),  # ends no script
        script=script,
    )


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
    first, *others = [_chart(found, chart) for chart in drawn if chart.chooser != "strategy"] or [""]
    figures = "".join(others)
    if chosen := [chart for chart in drawn if chart.chooser == "strategy"]:
        charts = "".join(_chart(found, chart, is_alone=False) for chart in chosen)
        figures += (
            f'<div class="together"><h3>One strategy</h3>{_chooser(found, chosen)}<div class="row">{charts}</div></div>'
        )
    return (
        f'<section id="{found.name}"><h2>{html.escape(found.title)}</h2>'
        f'<p class="finding">{html.escape(headline(found.rows))}</p>{first}{_table(found)}'
        f'<details open class="notes"><summary>Notes on the table</summary>'
        f"<ul>{listing}</ul></details>{figures}{gallery(found)}"
        f'<p class="files">The same figures as PNG and SVG: <code>report/figures/{found.name}/</code></p>'
        "</section>"
    )


def _chart(found: Findings, picture: Picture, *, is_alone: bool = True) -> str:
    title, heading = html.escape(picture.title), "h3" if is_alone else "h4"
    choice = _chooser(found, [picture]) if is_alone and len(picture.shown) > 1 else ""
    return (
        f'<figure><{heading}>{title}</{heading}>{choice}<div class="scroll{" wide" * picture.is_wide}">'
        f'<div class="chart" id="{found.name}-{picture.name}" role="img" aria-label="{title}" '
        f'style="min-height:{picture.height}px"></div></div>'
        f"<figcaption>{html.escape(f'{picture.caption} {picture.hint}'.strip())}</figcaption></figure>"
    )


def _chooser(found: Findings, drawn: Sequence[Picture]) -> str:
    """Returns the selector that switches some charts together."""
    names = " ".join(f"{found.name}-{picture.name}" for picture in drawn)
    labels = map(html.escape, drawn[0].shown)
    options = "".join(f'<option value="{label}">{label}</option>' for label in labels)
    return f'<label class="chooser">{drawn[0].chooser} <select data-charts="{names}">{options}</select></label>'


def _table(found: Findings) -> str:
    block, heads = found.rows, ""
    columns = [column for column in known_columns(block).values() if column.keys[0] in block]
    for column in columns:
        first, title = "asc" if column.ascending else "desc", html.escape(column.title(block))
        marks = " data-hidden" * (not column.on_page) + " data-number" * (not column.is_text)
        heads += f'<th scope="col" data-name="{html.escape(column.name)}" data-first="{first}"{marks}>{title}</th>'
    rows = "".join(
        f'<tr data-family="{row["family"]}">{"".join(_cell(column, row) for column in columns)}</tr>'
        for row in block.to_dict("records")
    )
    options = "".join(f"<option>{family}</option>" for family in FAMILIES if family in set(block["family"]))
    name = f"table-{found.name}"
    return (
        f'<div class="table"><label class="chooser">family <select data-table="{name}"><option value="">all</option>'
        f'{options}</select></label><div class="scroll"><table id="{name}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _cell(column: Column, row: dict[Any, Any]) -> str:
    """Returns a cell; one without a number is sorted last if the best comes first."""
    shown = html.escape(column.cell(row))
    if column.name == "strategy":
        return f'<th scope="row">{shown}</th>'
    if column.name == "accuracy" and row["ties_best"]:
        shown = f"<strong>{shown}</strong>"
    if column.is_text:
        return f"<td>{shown}</td>"
    value = row[column.keys[0]]
    is_known = not (pd.isna(value) or math.isinf(value))
    order = repr(float(value)) if is_known else "1e300" if column.ascending else "-1e300"
    return f'<td data-order="{order}">{shown}</td>'


_FACTS = {
    "device": "device",
    "fusion_bench": "version",
    "commit": "commit",
    "plug-ins": "plugins",
    "python": "python",
    "packages": "packages",
}


def _environment(findings: Sequence[Findings]) -> str:
    environments = [run.environment for found in findings for run in found.block.runs]
    terms = ""
    for name, key in _FACTS.items():
        values = [each[key] for each in environments if each.get(key)]
        texts = {", ".join(map(" ".join, v.items())) if isinstance(v, dict) else str(v) for v in values}
        terms += f"<dt>{name}</dt>" * bool(texts) + "".join(f"<dd>{html.escape(text)}</dd>" for text in sorted(texts))
    commands = Counter(str(each["command"]) for each in environments if each.get("command"))
    listing = "".join(
        f"<li><pre><code>{html.escape(command)}</code></pre> {count} run{'s' * (count != 1)}</li>"
        for command, count in commands.items()
    )
    return f'<dl>{terms}</dl><h3>Commands</h3><ul class="commands">{listing or "<li>none recorded</li>"}</ul>'
