"""The page in a real browser: Debian's chromium, driven by playwright."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from fusion_bench.report.findings import find
from fusion_bench.report.notes import headline
from fusion_bench.report.page import render_page
from fusion_bench.report.plots import pictures
from fusion_bench.report.table import table
from fusion_bench.store import Store
from fusion_bench.store.examples import Example, write_examples
from tests.report.study import ACCURACIES, CLASSES, FAMILIES, N_TEST, write_study

INJECTION = "fusion-bench run --out '</script><script>alert(1)</script><b>'"

LONG = "--strategies " + ",".join(ACCURACIES) + " --out /a/long/path/to/the/last/word"


def make_examples():
    """Twelve examples, of which concat gets the last two wrong."""
    positions = [*range(10), N_TEST - 2, N_TEST - 1]
    names = [CLASSES[position % 3] for position in positions]
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    return [Example(p, i, f"a caption of <i>{n}</i>", n, n) for p, i, n in zip(positions, images, names, strict=True)]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("study"))
    write_examples(store.directory, "", make_examples())
    write_study(store, command=INJECTION)
    write_study(store, captions="synergy", command=f"fusion-bench run --captions synergy {LONG}")
    findings = find(store, table(store, details=True))
    return render_page(findings, {found.name: pictures(found) for found in findings})


@pytest.fixture(scope="module")
def path(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


# The text


class Elements(HTMLParser):
    """Counts elements, and keeps what is in the environment's section."""

    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def elements(text):
    parser = Elements()
    parser.feed(text)
    return parser


def test_the_page_is_one_file_that_names_no_other(text, elements):
    addresses = [a.get("src") or a.get("href") for _, a in elements.tags if "src" in a or "href" in a]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert text.count("plotly.js v") == 1


def test_what_comes_from_run_files_is_escaped(text, elements):
    scripts = [a for tag, a in elements.tags if tag == "script"]
    assert len(scripts) == 4
    assert INJECTION in "".join(elements.words)
    assert "alert(1)</script><b>" not in text
    assert CLASSES[1] not in text


def test_each_setting_has_a_section_and_the_navigation_leads_to_it(elements):
    sections = [a["id"] for tag, a in elements.tags if tag == "section"]
    links = [a["href"] for tag, a in elements.tags if tag == "a" and a.get("href", "").startswith("#")]
    assert [f"#{name}" for name in sections] == [*links, "#environment"]
    assert [name.partition("-")[0] for name in sections[:2]] == ["default", "synergy"]


def test_tables_and_captions_are_accessible(text, elements):
    heads = [a.get("scope") for tag, a in elements.tags if tag == "th"]
    assert set(heads) == {"col", "row"}
    assert heads.count("row") == 2 * (len(ACCURACIES) + 2)
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == 2 * 8
    assert all("n = 3 seeds" in caption for caption in captions)


def test_notes_environment_and_commands_are_there(elements):
    words = "".join(elements.words)
    assert "±: 95 % interval over n = 3 seeds (Student's t: 4.3 standard errors)" in words
    assert "jax 0.10.2" in words
    assert "a processor" in words
    assert words.count("fusion-bench run --captions synergy") == 1
    assert "24 runs" in words


def test_examples_show_what_strategies_answered(text):
    (gallery,) = re.findall(r'<div class="examples">.*?</div>', text.partition("</section>")[0], re.DOTALL)
    typical, errors = gallery.split("Most confident errors of concat")
    assert typical.count("<img ") == 10
    assert errors.count("<img ") == 2
    assert gallery.count('src="data:image/png;base64,') == 12
    assert "<q>a caption of &lt;i&gt;circle&lt;/i&gt;</q>" in typical
    assert '<span aria-label="right">✓</span> concat: circle, ' in typical
    assert "✗" in errors
    assert "✓</span> concat" not in errors


def joins(*rows):
    """Rows of a table: name, accuracy, seeds, whether it is level with the best."""
    keys = ("strategy", "test_accuracy_mean", "n_seeds", "ties_best")
    common = {"family": "late", "test_accuracy_ci95": 0.01, "gain_over": "", "gain_mean": np.nan, "gain_ci95": np.nan}
    return pd.DataFrame([common | dict(zip(keys, row, strict=True)) for row in rows])


@pytest.mark.parametrize(
    ("frame", "end"),
    [
        (joins(("a", np.nan, 0, False)), "No multimodal strategy has a result."),
        (joins(("a", 0.8, 1, True), ("b", 0.7, 1, False)), "With one seed no difference can be tested."),
        (joins(("a", 0.8, 3, True)), "80.00 ± 1.00 %."),
        (joins(("a", 0.8, 3, True), ("b", 0.7, 3, False)), "below it (paired t-tests, α = 0.05, uncorrected)."),
        (joins(("a", 0.8, 3, True), ("b", 0.7, 3, True), ("c", 0.9, 2, True)), "uncorrected): b."),
    ],
)  # fmt: skip
def test_the_finding_says_what_the_seeds_establish(frame, end):
    assert headline(frame).endswith(end)


def test_a_section_begins_with_the_finding(text):
    finding = "concat has the highest mean test accuracy, 85.00 ± 2.48 %, +14.00 ± 0.34 points over image-only. "
    finding += "Not significantly different from it (paired t-tests, α = 0.05, uncorrected): late-posthoc."
    assert text.index(f'<p class="finding">{finding}</p>') < text.index('class="chart"') < text.index("<table id=")
    assert text.index("</table>") < text.index("How to read this page")


# The browser


@pytest.fixture
def load(browser, path):
    """Opens the page; what goes wrong in it, or is asked of the network, fails the test."""
    faults: list[str] = []
    pages = []

    def opened(width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))

        def meet(route):
            if route.request.url == path.as_uri():
                route.continue_()
            else:
                faults.append(f"asked for {route.request.url[:200]}")
                route.abort()

        page.route("**/*", meet)
        page.goto(path.as_uri())
        page.wait_for_selector(".dt-container")
        return page

    yield opened
    for page in pages:
        page.close()
    assert faults == []


def first_table(page):
    return page.locator("table.dataTable").first


def strategies(page):
    return [name for name in first_table(page).locator("tbody th").all_inner_texts() if name]


def sort(page, column, order):
    """Clicks on a column's heading, and waits until it says the order."""
    first_table(page).locator(f"thead th[data-name={column}]").click()
    first_table(page).locator(f"thead th[data-name={column}][aria-sort={order}]").wait_for()


def test_sorting_by_accuracy_reorders_the_rows(load):
    page = load()
    measured = [name for name in strategies(page) if not name.startswith("ceiling")]
    assert measured == [*FAMILIES, "bayes-reference"]
    sort(page, "accuracy", "descending")
    best = sorted(ACCURACIES, key=lambda name: -sum(ACCURACIES[name]))
    assert strategies(page) == ["ceiling: image only", *best[:-1], "ceiling: text only", best[-1]]
    sort(page, "accuracy", "ascending")
    assert strategies(page)[0] == best[-1]
    # numbers, not texts: 900 before 1,000
    sort(page, "params", "ascending")
    assert strategies(page)[:7] == [*FAMILIES]


def test_the_table_is_sorted_from_the_keyboard(load):
    page = load()
    head = first_table(page).locator("thead th[data-name=accuracy]")
    head.locator("[role=button]").focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    first_table(page).locator("th[data-name=accuracy][aria-sort=descending]").wait_for()
    assert outline != "none"


def test_filters_hide_rows(load):
    page = load()
    page.locator(".dt-search input").first.fill("only")
    assert {*strategies(page)} == {"image-only", "text-only", "ceiling: image only", "ceiling: text only"}
    page.locator(".dt-search input").first.fill("")
    page.locator("select[data-table]").first.select_option("late")
    assert strategies(page) == ["late-mean", "late-posthoc"]
    page.locator("select[data-table]").first.select_option("")
    assert len(strategies(page)) == len(ACCURACIES) + 2


def test_hidden_columns_are_shown_by_choice(load):
    page = load()
    heads = first_table(page).locator("thead th")
    shown = heads.count()
    page.get_by_role("button", name="columns").first.click()
    page.get_by_role("button", name="Brier score").click()
    assert heads.count() == shown + 1


def drawn(page, name):
    """Waits until the first setting's chart is there, and returns a handle on it."""
    chart = page.locator(f".chart[id^=default][id$={name}]")
    chart.scroll_into_view_if_needed()
    page.wait_for_function("id => document.getElementById(id).data", arg=chart.get_attribute("id"))
    return chart


COLOURED = ("Accuracy against cost", "Learning curves", "Accuracy by class", "Confusion matrix", "ROC curve")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_on_paper(load, scheme):
    """Charts are drawn when they are seen, but printed all; nothing is cut off at the right edge."""
    pdfium = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    page = load(scheme=scheme)
    pages = list(pdfium.PdfDocument(page.pdf(format="A4", print_background=True)))
    words = " ".join(" ".join(each.get_textpage().get_text_range() for each in pages).split())
    labels = page.evaluate("[...document.querySelectorAll('.chart')].map(c => c.layout.yaxis.title.text)")
    assert len(labels) == 2 * 8
    assert LONG.split()[-1] in "".join(words.split())  # a long command is broken, not cut
    assert all(label in words for label in labels if label)
    coloured = 0
    for each in pages:
        text, image = each.get_textpage(), np.asarray(each.render(scale=1).to_pil().convert("RGB"), int)
        assert max(text.get_charbox(number)[2] for number in range(text.count_chars())) < each.get_width()
        assert image[0, 0].min() == 255
        if any(title in text.get_text_range() for title in COLOURED):
            coloured += 1
            assert (image.max(axis=2) - image.min(axis=2) > 40).sum() > 200  # marks, as text has none
    assert coloured >= len(COLOURED)


def test_choosing_a_strategy_changes_its_charts(load):
    page = load()
    confusion, roc = drawn(page, "confusion"), drawn(page, "roc")
    diagonal = "element => element.data[0].z.map((row, place) => Math.round(row[place]))"
    assert confusion.evaluate(diagonal) == [71, 71, 71]
    assert "image-only: AUC" in roc.inner_text()
    page.locator("select[data-charts*=confusion]").first.select_option("concat")
    assert confusion.evaluate(diagonal) == [85, 85, 85]
    assert "concat: AUC" in roc.inner_text()
    bars = drawn(page, "classes").evaluate("element => element.data.map(trace => trace.y.map(Math.round))")
    assert bars == [[85, 85, 85], [71, 71, 71]]  # the chosen one, and the best unimodal one beside it
    assert CLASSES[1] in confusion.inner_text()  # as text: no element of it


def test_choosing_a_cost_changes_the_axis(load):
    page = load()
    cost = drawn(page, "cost")
    first = "element => element.data.find(trace => trace.name === 'early').x[0]"
    assert cost.evaluate(first) == 3000
    page.locator("select[data-charts*=cost]").first.select_option("training MFLOP per example")
    assert cost.evaluate(first) == 5
    assert "training MFLOP per example" in cost.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction(load, scheme):
    page = load(width=390, scheme=scheme)
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        page.wait_for_function("id => document.getElementById(id).data", arg=chart.get_attribute("id"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.scrollWidth") <= 390
    accuracy = first_table(page).locator("thead th[data-name=accuracy]").bounding_box()
    assert accuracy["x"] + accuracy["width"] <= 390  # in view, without scrolling the table


def test_charts_follow_the_scheme(load):
    page = load(scheme="light")
    chart = drawn(page, "accuracy")
    colour = "element => getComputedStyle(element.querySelector('.xtick text')).fill"
    light = chart.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "([id, was]) => getComputedStyle(document.querySelector('#' + id + ' .xtick text')).fill !== was",
        arg=[chart.get_attribute("id"), light],
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
