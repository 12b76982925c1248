"""Writes the report of a study: figures, and one page."""

from pathlib import Path

from fusion_bench import files
from fusion_bench.errors import UserError
from fusion_bench.report.findings import find
from fusion_bench.report.page import render_page
from fusion_bench.report.plots import matplotlib, pictures
from fusion_bench.report.table import table
from fusion_bench.store import Store

FOLDER = "report"


def write_report(store: Store, *, against: str = "") -> tuple[Path, list[str]]:
    """Writes DIR/report/: index.html, and of each setting the figures, as PNG and SVG.

    Args:
      store: its runs.
      against: the strategy that gains are over; the best unimodal one if empty.

    Returns:
      the page, and a line for everything that could not be read and was left out.

    Raises:
      UserError: there is no run, no run is of `against`, or the directory cannot be written to.
    """
    omitted = []
    try:
        frame = table(store, against=against, details=True)
    except UserError as error:
        frame = table(store, against=against)
        omitted.append(f"metrics from logits: {error}")
    if frame.empty:
        raise UserError(f"there is no run in {store.directory} that can be read")
    findings = find(store, frame)
    page = store.directory / FOLDER / "index.html"
    text = render_page(findings)
    try:
        for found in findings:
            for picture in pictures(found):
                matplotlib.write(picture, page.parent / "figures" / found.name / picture.name, found.title)
        files.write_text(page, text)
    except OSError as error:
        raise UserError(f"{page.parent} cannot be written: {error.strerror or error}") from error
    return page, omitted + [line for found in findings for line in found.omitted]
