"""What the server refuses: each bound has a case, whose answer is one line that says what would be right."""

import asyncio
import io
import json
import threading
import time

import pytest
from PIL import Image

from fusion_bench.deploy.card import MAX_CHARACTERS
from fusion_bench.deploy.serve.app import make_app
from fusion_bench.deploy.serve.guard import FAULT
from fusion_bench.deploy.serve.limits import Limits
from fusion_bench.deploy.serve.predictor import Predictor
from fusion_bench.errors import UserError
from tests.deploy.classifiers import draw_pixels, encoded
from tests.deploy.serving import IMAGE, TEXT, base64_of, bomb, client_of, example, form, refused

JSON = {"content-type": "application/json"}


def post_raw(client, text, **headers):
    content = text if isinstance(text, bytes) else text.encode()
    return client.post("/predict", content=content, headers={**JSON, **headers})


def post_form(client, body, boundary="b"):
    return post_raw(client, body, **{"content-type": f"multipart/form-data; boundary={boundary}"})


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "application/json"])
def test_a_body_has_a_largest_size(client, is_chunked, kind):
    size = Limits().body + 1
    content = iter([b" " * size]) if is_chunked else b" " * size
    answer = client.post("/predict", content=content, headers={"content-type": kind})
    assert "8,388,608 bytes are right" in refused(answer, 413)
    assert answer.headers["connection"] == "close"
    assert (answer.request.headers.get("content-length") is None) == is_chunked


def test_a_repeated_name_among_many_is_found_at_once(client):
    names = ", ".join(f'"{number}": 0' for number in range(300_000))
    start = time.monotonic()
    line = refused(post_raw(client, f'{{{names}, "z": 0, "z": 0}}'))
    assert line == "z comes twice; once is right"
    assert time.monotonic() - start < 30  # counting each name among all took hours


def test_long_lists_are_refused_before_they_are_an_array(client):
    """NumPy would make room for the longest string times the number of entries: 40 GB here."""
    listed = ["a" * 1_000_000, *["b"] * 10_000]
    assert "must be nested lists of numbers" in refused(client.post("/predict", json={"image": "", "text": listed}))
    line = refused(client.post("/predict", json={"text": [[0] * 100_000], "missing": "neutral"}))
    assert "must be nested lists of numbers" in line
    assert "must be nested lists of numbers" in refused(client.post("/predict", json={"text": [1 << 80] * 5}))


def test_a_declared_length_is_believed_before_anything_is_read(client):
    refused(post_raw(client, "", **{"content-length": "9" * 30}), 413)


@pytest.mark.parametrize("content", [bomb(5000), bomb(20000), encoded(Image.new("1", (4096, 4097)))])
@pytest.mark.parametrize("is_form", [True, False])
def test_an_image_has_a_largest_size_in_pixels(client, content, is_form):
    asked = form(content) if is_form else {"json": {"image": base64_of(content), "text": TEXT}}
    line = refused(client.post("/predict", **asked))
    assert line.startswith("image: the image has ")
    assert "16,777,216" in line


def test_the_images_of_a_request_have_a_largest_size_together(client):
    large = {"image": base64_of(bomb(4096)), "text": TEXT}
    line = refused(client.post("/predict", json={"examples": [large, example()]}))
    assert "16,777,216 pixels in all" in line
    assert line.startswith("example 1: ")


def animated(form):
    frames = [Image.fromarray(draw_pixels(seed=seed)) for seed in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, form, save_all=True, append_images=frames[1:])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"GIF89a" + bytes(30), "no PNG, JPEG or WebP"),
        (encoded(draw_pixels(), "GIF"), "no PNG, JPEG or WebP"),
        (encoded(draw_pixels(), "BMP"), "no PNG, JPEG or WebP"),
        (encoded(draw_pixels(), "TIFF"), "no PNG, JPEG or WebP"),
        (b"%PDF-1.4 %%EOF", "no PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG or WebP"),
        (IMAGE[:-40], "damaged or truncated"),
        (encoded(draw_pixels(64, 64), "JPEG")[:-200], "damaged or truncated"),
        (animated("PNG"), "animated"),
        (animated("WEBP"), "animated"),
    ],
)
def test_an_image_is_of_three_formats_whole_and_of_one_frame(client, content, line):
    assert line in refused(client.post("/predict", **form(content)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats(client, kind):
    assert client.post("/predict", **form(encoded(draw_pixels(), kind))).status_code == 200


def test_a_text_has_a_largest_length(client):
    for asked in (form(text="é" * (MAX_CHARACTERS + 1)), {"json": {**example(), "text": "é" * (MAX_CHARACTERS + 1)}}):
        assert "1,001 characters; at most 1,000" in refused(client.post("/predict", **asked))
    assert client.post("/predict", **form(text="é" * MAX_CHARACTERS)).status_code == 200


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('{"text": NaN}', "NaN is no JSON"),
        ('{"text": Infinity}', "Infinity is no JSON"),
        ('{"text": [-Infinity]}', "-Infinity is no JSON"),
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("[" * 100, "not JSON"),
        ('{"text": ' + "[" * 200 + "]" * 200 + "}", "text must be nested lists of numbers"),
        ('{"text": 5}', "text must be a string"),
        ('{"text": null}', "text must be a string"),
        ('{"text": ' + "9" * 5000 + "}", "not JSON"),
        ('{"text": "a", "text": "b"}', "text comes twice"),
        ('{"text": "a", "txt": "b"}', "unknown field 'txt'; did you mean text?"),
        ('{"colour": "b"}', "unknown field 'colour'; choose from image, text, examples, missing, alone"),
        ('{"text": "a", "missing": true}', "missing must be neutral or error"),
        ('{"text": "a", "alone": 1}', "alone must be true or false"),
        ('{"image": 7, "text": "a"}', "image must be an image file, in base64"),
        ('{"image": "?!", "text": "a"}', "image is not base64"),
        ('{"image": "é", "text": "a"}', "image is not base64"),
        ('{"image": "", "text": "a"}', "image is missing"),
        ("[]", "must be a JSON object"),
        ("", "not JSON"),
        (b'{"text": "\xff"}', "not JSON in UTF-8"),
        ('{"text": "a"}'.encode("utf-16"), "not JSON in UTF-8"),
        ('{"examples": []}', "there are 0 examples; 1 to 64"),
        ('{"examples": {}}', "must be a list"),
        ('{"examples": [1]}', "must be a list"),
        ('{"examples": [{}], "text": "a"}', "examples has all modalities"),
        ('{"examples": [{"txt": "a"}]}', "example 0: unknown field 'txt'"),
        ('{"examples": [{"missing": "neutral"}]}', "example 0: unknown field 'missing'"),
        (json.dumps({"examples": [example()] * 65}), "there are 65 examples; 1 to 64"),
        (json.dumps({"examples": [example(), {"text": "a"}]}), "example 1: image is missing"),
        (json.dumps({"examples": [example(), {**example(), "text": [1] * 999}]}), "example 1: text must be"),
    ],
)
def test_json_is_strict(client, body, line):
    assert line in refused(post_raw(client, body))


def test_text_that_is_no_unicode_does_not_end_the_server(client):
    answer = post_raw(client, json.dumps({**example(), "text": "a \ud800 star"}))
    assert answer.status_code == 200
    refused(post_raw(client, '{"\\ud800": 1}'))


PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (PART % (b"text", b"a") + PART % (b"text", b"b") + b"--b--\r\n", "text comes twice"),
        (PART % (b"txt", b"a") + b"--b--\r\n", "unknown field 'txt'; did you mean text?"),
        (PART % (b"examples", b"[]") + b"--b--\r\n", "examples must be a list"),
        (PART % (b"text", b"\xff") + b"--b--\r\n", "text is not UTF-8"),
        (PART % (b"text", b"a"), "cut off"),
        (PART % (b"", b"a") + b"--b--\r\n", "no name"),
        (b"--b\r\n\r\na\r\n--b--\r\n", "no name"),
        (b"--c\r\n", "damaged"),
        (b"", "cut off"),
        (b"--b\r\n" + b"a: b\r\n" * 1000, "damaged"),
        (PART % (b"alone", b"yes") + b"--b--\r\n", "alone must be true or false"),
    ],
)
def test_a_form_is_strict(client, body, line):
    assert line in refused(post_form(client, body))


def test_other_types_of_content(client):
    refused(post_raw(client, "text=a", **{"content-type": "application/x-www-form-urlencoded"}), 415)
    refused(client.post("/predict"), 415)
    assert "no boundary" in refused(post_raw(client, "", **{"content-type": "multipart/form-data"}))
    assert refused(post_form(client, b"", "b" * 10_000)) == "the form is damaged"


def test_other_methods_and_paths(client):
    assert client.get("/predict").headers["allow"] == "POST"
    refused(client.get("/predict"), 405)
    refused(client.delete("/health"), 405)
    refused(client.get("/none"), 404)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[::1", "a b"])
def test_a_host_of_another_name_is_refused(client, host):
    assert "localhost or 127.0.0.1 or [::1]" in refused(client.get("/health", headers={"host": host}))


def test_hosts_of_this_machine_and_any_if_told_so(client, classifier):
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/health", headers={"host": host}).status_code == 200
    with client_of(classifier, hosts=None) as open_client:
        assert open_client.get("/health", headers={"host": "a.example"}).status_code == 200


def test_a_fault_says_nothing_of_the_inside(classifier, monkeypatch, caplog):
    def fail(*arguments):
        raise OSError("/secret/path")

    monkeypatch.setattr("fusion_bench.deploy.serve.service.read_question", fail)
    with client_of(classifier) as client:
        assert refused(client.post("/predict", **form()), 500) == FAULT
        assert client.get("/health").status_code == 200
    assert "/secret/path" in caplog.text


def test_a_modality_with_the_name_of_an_option(classifier, monkeypatch):
    monkeypatch.setattr("fusion_bench.deploy.serve.app.OPTIONS", ("text",))
    with pytest.raises(UserError, match="called text"):
        make_app(classifier)


async def ask(app, messages, send, content_type=b"application/json"):
    """Calls an application as a server does, with messages that may be awaited."""
    headers = [(b"host", b"localhost"), (b"content-type", content_type)]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}

    async def receive():
        message = next(messages)
        return await message if asyncio.iscoroutine(message) else message

    await app(scope, receive, send)


def collect(answers):
    async def send(message):
        answers.append(message)

    return send


def test_more_requests_than_may_wait_are_told_to_come_again(classifier, monkeypatch):
    go, original = threading.Event(), Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, groups: (go.wait(20), original(self, groups))[1])
    app = make_app(classifier, Limits(waiting=3))
    body = {"type": "http.request", "body": json.dumps(example()).encode(), "more_body": False}
    answers = [[] for _ in range(5)]

    async def main():
        async with asyncio.TaskGroup() as group:
            for one in answers[:3]:
                group.create_task(ask(app, iter([body]), collect(one)))
            await asyncio.sleep(0.5)
            assert b"queue_length 3.0" in app.metrics.text()
            for one in answers[3:]:
                await ask(app, iter([body]), collect(one))
            go.set()
        assert b"queue_length 0.0" in app.metrics.text()

    asyncio.run(main())
    assert [one[0]["status"] for one in answers] == [200, 200, 200, 503, 503]
    assert (b"retry-after", b"1") in answers[3][0]["headers"]
    assert b"try again" in answers[3][1]["body"]


def test_bodies_in_memory_have_a_bound_together(classifier):
    app = make_app(classifier, Limits(held=1000))
    answers = [[], []]

    async def main():
        later = asyncio.Event()
        whole = json.dumps(example()).encode()
        part = {"type": "http.request", "body": whole[:600].ljust(600), "more_body": True}

        async def end():
            await later.wait()
            return {"type": "http.disconnect"}

        first = asyncio.create_task(ask(app, iter([part, end()]), collect(answers[0])))
        await asyncio.sleep(0.1)
        await ask(app, iter([part]), collect(answers[1]))
        later.set()
        await first

    asyncio.run(main())
    assert [one[0]["status"] for one in answers] == [400, 503]
    assert (b"retry-after", b"1") in answers[1][0]["headers"]


def test_a_body_that_does_not_come_in_time(classifier):
    app = make_app(classifier, Limits(seconds=0.2))
    answers = []
    part = {"type": "http.request", "body": b"{", "more_body": True}
    asyncio.run(ask(app, iter([part, asyncio.sleep(60)]), collect(answers)))
    assert answers[0]["status"] == 408
    assert (b"connection", b"close") in answers[0]["headers"]
