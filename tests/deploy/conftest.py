"""A real browser, Debian's chromium, driven by playwright."""

import shutil
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")  # while it is open its driver has the thread's event loop, which other modules need
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Opens an address; what goes wrong in the page, or is asked of another host, fails the test."""
    faults: list[str] = []
    pages = []

    def opened(address, *, width=1280, scheme="light", expected=()):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)

        def note(text):
            if not any(words in text for words in expected):
                faults.append(text)

        page.on("console", lambda m: note(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))

        def meet(route):
            if urlsplit(route.request.url).netloc == urlsplit(address).netloc:
                route.continue_()
            else:
                faults.append(f"asked for {route.request.url[:200]}")
                route.abort()

        page.route("**/*", meet)
        page.goto(address)
        return page

    yield opened
    for page in pages:
        page.close()
    assert faults == []
