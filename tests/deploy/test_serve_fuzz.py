"""Random requests: the server lives, has no fault, and its answer to a fixed request stays the same, bit for bit."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_bench.deploy.model import load_classifier
from tests.deploy.serving import IMAGE, TEXT, client_of, example, form

# threads of the server run while a strategy draws, and hypothesis takes their use of `random` for the strategy's
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

EXAMPLES = 1000
"""Requests of each kind."""
NAMES = st.sampled_from(("image", "text", "examples", "missing", "alone", "")) | st.text(max_size=8)
WORDS = st.sampled_from((TEXT, "neutral", "true", "error", example()["image"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=15
)
PATHS = st.sampled_from(("/", "/predict", "/health", "/metrics", "/model", "/page.js", "/favicon.ico", "/none"))
HEADER_NAMES = st.sampled_from(
    ("content-type", "content-length", "host", "expect", "accept", "transfer-encoding", "connection", "upgrade")
) | st.text(string.ascii_letters, min_size=1, max_size=8)
HEADER_VALUES = st.sampled_from(
    ("application/json", "multipart/form-data; boundary=b", "localhost", "100-continue", "-1", "chunked", "websocket")
) | st.text(string.printable.strip(), max_size=20)


@pytest.fixture(scope="module")
def client(plain):
    with client_of(load_classifier(plain.config.out, plain.stored("concat").id)) as client:
        before = [
            client.post("/predict", json=example()).content,
            client.post("/predict", **form(alone="true")).content,
        ]
        yield client
        after = [client.post("/predict", json=example()).content, client.post("/predict", **form(alone="true")).content]
        assert before == after
        assert client.get("/health").json()["status"] == "ok"


def fuzz(*strategies):
    quick = settings(
        max_examples=EXAMPLES,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        database=None,
    )
    return lambda test: quick(given(*strategies)(test))


def check(answer):
    assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert list(answer.json()) == ["error"]
        assert "\n" not in answer.json()["error"]


def mutated(draw, content: bytes) -> bytes:
    """Returns bytes with a part replaced, removed or repeated."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 40)))
    return content[:start] + draw(st.binary(max_size=20)) + content[end:] * draw(st.integers(0, 2))


@fuzz(st.binary(max_size=300), st.sampled_from(("application/json", "multipart/form-data; boundary=b", "text/plain")))
def test_any_body(client, body, kind):
    check(client.post("/predict", content=body, headers={"content-type": kind}))


@fuzz(VALUES | st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_json(client, value):
    check(client.post("/predict", content=json.dumps(value), headers={"content-type": "application/json"}))


@fuzz(st.lists(st.tuples(NAMES, st.binary(max_size=30) | st.sampled_from((IMAGE, TEXT.encode(), b"true"))), max_size=5))
def test_any_form(client, parts):
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode("utf-8", "replace"), value)
        for name, value in parts
    )
    kind = {"content-type": "multipart/form-data; boundary=b"}
    check(client.post("/predict", content=body + b"--b--\r\n", headers=kind))


@fuzz(st.data())
def test_a_right_request_with_an_error(client, data):
    request = client.build_request("POST", "/predict", **data.draw(st.sampled_from((form(), {"json": example()}))))
    body = mutated(data.draw, request.read())
    check(client.post("/predict", content=body, headers={"content-type": request.headers["content-type"]}))


@fuzz(st.data())
def test_an_image_with_an_error(client, data):
    check(client.post("/predict", **form(mutated(data.draw, IMAGE))))


@fuzz(
    st.sampled_from(("GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE")),
    PATHS,
    st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=4),
)
def test_any_headers(client, method, path, headers):
    answer = client.request(method, path, headers=headers, content=json.dumps(example()))
    if method != "HEAD":
        check(answer)
