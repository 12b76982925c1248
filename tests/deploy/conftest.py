"""What tests of deployment share: a stored run's classifier, a server of it, and pages in a browser."""

from urllib.parse import urlsplit

import pytest

from fusion_bench.deploy.model import load_classifier
from tests.deploy.serving import client_of


@pytest.fixture(scope="session")
def classifier(plain):
    return load_classifier(plain.config.out, plain.stored("concat").id)


@pytest.fixture(scope="module")
def client(classifier):
    with client_of(classifier) as client:
        yield client


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
