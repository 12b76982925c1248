"""Applications and requests that tests of the server share."""

import base64
import contextlib
import io
from collections.abc import Iterator
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from fusion_bench.deploy.serve.app import make_app
from tests.deploy.classifiers import draw_pixels, encoded

IMAGE = encoded(draw_pixels())
TEXT = "a star, seen at night"


@contextlib.contextmanager
def client_of(classifier, limits=None, **options) -> Iterator[TestClient]:
    """Gives a client of an application that has started."""
    with TestClient(make_app(classifier, limits, **options), "http://localhost") as client:
        yield client


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def form(image: bytes | None = IMAGE, text: str | None = TEXT, **options) -> dict[str, Any]:
    """Returns what makes a client send a form."""
    fields = {**({} if text is None else {"text": text}), **options}
    files = {name: (None, value) for name, value in fields.items()}
    return {"files": files | ({} if image is None else {"image": ("image.png", image)})}


def example(seed=0, text=TEXT) -> dict[str, Any]:
    """Returns an example as JSON."""
    return {"image": base64_of(encoded(draw_pixels(seed=seed))), "text": text}


def bomb(side: int) -> bytes:
    """Returns a PNG of one colour: a few bytes, many pixels."""
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def refused(answer, status: int = 400) -> str:
    """Returns the line of an answer that has this status, after checks of its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (line,) = answer.json().values()
    assert list(answer.json()) == ["error"]
    assert "\n" not in line
    assert not any(word in line for word in ("Traceback", ".py", "/tmp", "site-packages"))
    return line
