"""Names and captions that hold marks of the language that they are written in."""

import html
import io
import re

import markdown
import numpy as np
import pytest
from rich.console import Console

from fusion_bench.report.findings import find
from fusion_bench.report.listing import Listing, markdown_table
from fusion_bench.report.page import render_page
from fusion_bench.report.plots import pictures, plotly
from fusion_bench.report.render import to_latex, to_markdown, to_rich
from fusion_bench.report.table import table
from fusion_bench.store import Store
from fusion_bench.store.examples import Example, write_examples
from tests.report.study import N_TEST, write_study

NAMES = {
    "a|b": r"a\textbar{}b",
    "two\nlines\n\nof it": "two lines of it",
    "<b>x</b>&amp;": r"$<$b$>$x$<$/b$>$\&amp;",
    "[bold]x[/bold] [/]": "[bold]x[/bold] [/]",
    r"_&%#${}~\^": r"\_\&\%\#\$\{\}\textasciitilde{}\textbackslash{}\textasciicircum{}",
    "</script><!--": "$<$/script$>$$<$!--",
    "100 % \u2265 \u03b1": r"100 \% $\geq$ $\alpha$",
}
"""Names, and what LaTeX is given for them."""


def plain(name):
    return " ".join(name.split())


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def listing(name):
    return Listing(name, [name, "y"], [[name, "1"], ["b", name]], [name], "lr")


def test_markdown_shows_names_as_they_are(name, listing):
    page = markdown.markdown(listing.to_markdown(), extensions=["tables"])
    cells = re.findall("<t[hd](?: [^>]*)?>(.*?)</t[hd]>", page, re.DOTALL)
    shown = [html.unescape(cell) for cell in cells]
    assert shown == [plain(name), "y", plain(name), "1", "b", plain(name)]
    assert html.escape(plain(name), quote=False) in page.partition("<table>")[0]  # the heading


def test_a_table_of_markdown_is_written_in_one_place():
    assert markdown_table(["x", "y"], [["1", "a|b"]]) == "| x | y |\n| --- | --: |\n| 1 | a\\|b |\n"
    assert markdown_table(["x", "y"], [], "rl").splitlines()[1] == "| --: | --- |"


def test_latex_shows_names_as_they_are(name, listing):
    text = listing.to_latex()
    assert f"{NAMES[name]} & y \\\\" in text
    assert f"{NAMES[name]} & 1 \\\\" in text
    assert f"\\caption{{{NAMES[name]}}}" in text
    assert f"\\raggedright\n{NAMES[name]}\n" in text


def test_a_terminal_shows_names_as_they_are(name, listing):
    text = io.StringIO()
    Console(file=text, width=60).print(listing)
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert f"· {plain(name)}".split() in lines or "\n" in name
    for part in name.split("\n"):
        assert sum(line[: len(part.split())] == part.split() for line in lines) >= 2  # heading and cell


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A study whose classes, strategy, captions and notes have these names."""
    store = Store(tmp_path_factory.mktemp("study"))
    write_study(store, classes=[*NAMES][:3], strategies={"concat": "concat:x=<b>[/b]|_"}, notes=[*NAMES])
    images = np.zeros((3, 4, 4, 3), np.uint8)
    shown = [*NAMES][4:]
    write_examples(
        store.directory, "", [Example(p, i, t, t, t) for p, (i, t) in enumerate(zip(images, shown, strict=True))]
    )
    (found,) = find(store, table(store, details=True))
    assert N_TEST % 3 == 0
    return found


def test_the_page_shows_names_as_they_are(found):
    page = render_page([found], {found.name: pictures(found)})
    text = re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<b>" not in page
    assert page.count("<!--") == 0
    assert page.count("</script>") == 4
    for part in ("concat:x=<b>[/b]|_", *NAMES):
        assert html.escape(part) in text or html.escape(plain(part)) in text
    labels = {html.unescape(label) for label in re.findall('<option value="(.*?)">', text)}
    assert set(found.tests) <= labels  # what page.js looks up


def test_all_forms_of_the_table_show_the_strategy(found):
    text = io.StringIO()
    Console(file=text, width=140).print(to_rich(found.rows))
    assert "concat:x=<b>[/b]|_ " in text.getvalue()
    assert r"concat:x=&lt;b>[/b]\|_ |" in to_markdown(found.rows)
    assert r"concat:x=$<$b$>$[/b]\textbar{}\_ &" in to_latex(found.rows)


def test_plotly_is_given_no_tags():
    assert plotly.text("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"
