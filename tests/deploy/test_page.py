"""The page in a real browser: Debian's chromium, driven by playwright; without a server behind it, and with one."""

import base64
import contextlib
import email
import functools
import gzip
import http.server
import io
import json
import re
import shutil
import tarfile
import threading
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import platformdirs
import pytest
from PIL import Image

from fusion_bench.data.captions.tokenizer import token_ids, train_tokenizer
from fusion_bench.deploy import page as page_files
from fusion_bench.deploy.card import describe
from fusion_bench.deploy.export import web
from fusion_bench.deploy.images import decode
from fusion_bench.errors import UserError
from tests.deploy.classifiers import encoded, make_classifier

CAPTIONS = (
    "Here is the curve we saw this morning.",
    "a CIRCLE, a zyzzyva; and - well ... what?!",
    "Ein Kreis – «très» bien: ΟΔΥΣΣΕΎΣ İSTANBUL 図形 👩‍🚀",
    "curve",
    "",
    "thing " * 100,
)


@contextlib.contextmanager
def serving(handler):
    """Serves in a thread, and gives the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Files(http.server.SimpleHTTPRequestHandler):
    """Files of a directory, without a log."""

    def log_message(self, format, *args):
        pass


class Stub(Files):
    """The page, and a server that answers as it is told: a card, and for each request a status and JSON."""

    card: dict
    asked: list[bytes]
    answer: tuple[int, dict]

    def translate_path(self, path):
        return str(page_files.FOLDER / {"/": "index.html", "/model.js": "server.js"}.get(path, path[1:]))

    def do_GET(self):
        self.reply(200, self.card) if self.path == "/model" else super().do_GET()

    def do_POST(self):
        self.asked.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(*self.answer)

    def reply(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def stub():
    """Starts a stub for a card; gives its address and the class, whose answer can be changed."""
    with contextlib.ExitStack() as stack:

        def started(card):
            kind = type("Started", (Stub,), {"card": card, "asked": [], "answer": (200, {})})
            return stack.enter_context(serving(kind)), kind

        yield started


def upload(content):
    return {"name": "an image.png", "mimeType": "image/png", "buffer": content}


def draw(rng, height, width, channels=3):
    """Noise on waves, which no filter leaves as it is."""
    rows, columns = np.mgrid[:height, :width, :1][:2]
    waves = 128 + 100 * np.sin(rows / 5 + columns / 7 + np.arange(channels))
    pixels = (waves + rng.normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


# Without a server: ONNX Runtime in the browser


@pytest.fixture(scope="module")
def runtime():
    """ONNX Runtime for browsers: of the user's cache if it is there, else fetched."""
    entry = Path(platformdirs.user_cache_dir("fusion_bench")) / f"{web.PACKAGE}-{web.VERSION}"
    try:
        return web.find_runtime(entry if entry.is_dir() else None)
    except UserError as error:
        pytest.skip(str(error))


def write_site(classifier, runtime, folder):
    onnx = pytest.importorskip("fusion_bench.deploy.export.onnx")
    pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
    model = onnx.to_onnx(classifier).SerializeToString()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "find_runtime", lambda given: runtime)
        web.write_web(classifier, model, folder)
    return serving(functools.partial(Files, directory=str(folder)))


@pytest.fixture(scope="module")
def site(classifier, runtime, tmp_path_factory):
    with write_site(classifier, runtime, tmp_path_factory.mktemp("web") / "site") as address:
        yield address


PREDICT = """async examples => {
  const { load, predict } = await import("./model.js");
  await load();
  const answers = [];
  for (const { image, text } of examples) {
    const bytes = image === null ? null : Uint8Array.from(atob(image), c => c.charCodeAt());
    answers.push(await predict({ image: bytes === null ? undefined : new Blob([bytes]), text: text ?? undefined }));
  }
  return answers;
}"""


def predict_in_browser(page, examples):
    sent = [
        {"image": None if image is None else base64.b64encode(image).decode(), "text": text} for image, text in examples
    ]
    return page.evaluate(PREDICT, sent)


def predict_here(classifier, image, text):
    """Probabilities by class of an image file and a caption, None for a neutral one."""
    given = {} if text is None else {"text": text}
    if image is not None:
        given["image"] = decode(image, classifier.modalities["image"].shape)
    (found,) = classifier.predict([classifier.fill(given)])
    return dict(zip(classifier.class_names, found, strict=True))


def test_the_browser_predicts_what_python_does(open_page, site, classifier):
    rng = np.random.default_rng(0)
    shape = classifier.modalities["image"].shape
    examples: list = [(encoded(rng.integers(0, 256, shape).astype(np.uint8)), text) for text in CAPTIONS]
    examples += [(encoded(draw(rng, 90, 61)), CAPTIONS[0]), (examples[0][0], None), (None, CAPTIONS[0])]
    answers = predict_in_browser(open_page(site), examples)
    for (image, text), answer in zip(examples, answers, strict=True):
        assert answer["probabilities"] == pytest.approx(predict_here(classifier, image, text), abs=1e-5)
        alone = {"image": (image, None), "text": (None, text)}
        for name, given in alone.items():
            expected = None if given == (None, None) else predict_here(classifier, *given)
            assert answer["alone"][name] == (None if expected is None else pytest.approx(expected, abs=1e-5))


def test_what_cannot_be_given_is_neutral_in_the_browser(open_page, plain, runtime, tmp_path):
    """Numbers of any range, and a grid of one channel that is no image."""
    three = make_classifier(plain.stored("concat"), "concat", ("text", "sensor", "audio"))
    with write_site(three, runtime, tmp_path / "site") as address:
        (answer,) = predict_in_browser(open_page(address), [(None, "a photo of a dog")])
    expected = pytest.approx(predict_here(three, None, "a photo of a dog"), abs=1e-5)
    assert answer == {"probabilities": expected, "alone": {"text": expected, "sensor": None, "audio": None}}


def test_a_model_that_no_page_can_ask_is_refused(plain, tmp_path):
    moving = make_classifier(plain.stored("concat"), "concat", ("text", "motion"))
    with pytest.raises(UserError, match="cannot take motion, a sequence, and the run has no neutral value of it"):
        web.write_web(moving, b"", tmp_path / "site")
    assert not (tmp_path / "site").exists()


WORDS = (
    "circle",
    "Circles,",
    "ring!",
    "ΣΊΣΥΦΟΣ",
    "İstanbul",
    "ﬁgure",
    "e\u0301",
    "図形",
    "รูปวงกลม",
    "कक्षा",
    "👩‍🚀",
    "x_1",
    "٣٤",
)


def random_texts(rng, count):
    """Words, and characters of any script; halves of characters at the end."""
    category = unicodedata.ucd_3_2_0.category  # characters that all libraries and browsers know
    known = np.array([chr(i) for i in range(1, 0x20000) if category(chr(i)) not in ("Cn", "Co", "Cs")])
    texts = []
    for _ in range(count):
        words = rng.choice(WORDS, rng.integers(0, 6)).tolist()
        words += ["".join(rng.choice(known, rng.integers(1, 9))) for _ in range(rng.integers(0, 4))]
        rng.shuffle(words)
        texts.append(rng.choice([" ", "  ", "\n", "\u00a0", "\u0085", "-"]).join(words))
    return [*texts, "", " ", "a\ud800b", "\udc00\ud83d\ude00", *CAPTIONS]


@pytest.mark.parametrize("kind", ["word", "bpe", "characters"])
def test_the_browser_divides_texts_as_python_does(open_page, stub, kind):
    rng = np.random.default_rng(0)
    learned = random_texts(rng, 200)[:200] + [*WORDS, *CAPTIONS] * 20
    tokenizer = train_tokenizer(learned, kind)
    assert kind != "bpe" or json.loads(tokenizer.to_str())["model"]["merges"]
    texts = random_texts(rng, 400)
    page = open_page(f"{stub({})[0]}page.css")
    units = [np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2").tolist() for text in texts]
    found = page.evaluate(
        """async ([made, texts]) => {
          const { makeTokenizer } = await import("./tokens.js");
          return texts.map(units => String.fromCharCode(...units)).map(makeTokenizer(JSON.parse(made)));
        }""",
        [tokenizer.to_str(), units],
    )
    expected = token_ids(tokenizer, texts)
    assert [row for row in zip(texts, found, expected, strict=True) if row[1] != row[2]] == []


def fit_in_browser(page, files, shape):
    """Returns the pixels that the browser makes of image files, [file, height, width, channel]."""
    pixels = page.evaluate(
        """async ([files, shape]) => {
          const { fit } = await import("./image.js");
          const read = file => new Blob([Uint8Array.from(atob(file), c => c.charCodeAt())]);
          return Promise.all(files.map(async file => Array.from((await fit(read(file), shape)).data)));
        }""",
        [[base64.b64encode(file).decode() for file in files], list(shape)],
    )
    return np.array(pixels, np.uint8).reshape(len(files), *shape[:2], 4)[..., : shape[2]]


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow scales tall images in another order")
@pytest.mark.parametrize("shape", [(32, 32, 3), (24, 40, 3), (32, 32, 1)])
def test_the_browser_scales_images_as_python_does(open_page, stub, shape):
    rng = np.random.default_rng(0)
    sizes = ((32, 32), (33, 32), (7, 5), (1, 1), (100, 40), (41, 300), (700, 650), (1100, 90))
    exact = [encoded(draw(rng, *size, channels)) for size in sizes for channels in (1, 3)]
    turned = Image.Exif()
    turned[0x0112] = 6
    # decoders of JPEG and WebP may round otherwise; a canvas multiplies colours by their opacity in 8 bits
    close = [encoded(draw(rng, 500, 400), form="JPEG", exif=turned), encoded(draw(rng, 90, 400), form="WEBP")]
    close += [encoded(draw(rng, *size, 4)) for size in sizes]
    page = open_page(f"{stub({})[0]}page.css")
    for files, largest in ((exact, 0), (close, 1)):
        expected = np.stack([decode(file, shape) for file in files])
        assert np.abs(fit_in_browser(page, files, shape).astype(int) - expected).max() <= largest


def test_the_page_shows_the_prediction_of_the_browser(open_page, site, classifier):
    page = open_page(site)
    image = encoded(draw(np.random.default_rng(1), 60, 80))
    page.set_input_files("input[type=file]", upload(image))
    page.fill("textarea", CAPTIONS[0])
    page.wait_for_selector("th:has-text('Text alone')")
    shown = dict(
        page.locator("tbody tr").evaluate_all("rows => rows.map(r => [r.cells[0].innerText, r.cells[1].innerText])")
    )
    expected = predict_here(classifier, image, CAPTIONS[0])
    assert {name: value for name, value in shown.items() if value[0] not in "<>"} == {
        name: f"{100 * p:.1f} %" for name, p in expected.items() if 0.001 <= p <= 0.999
    }
    assert "do not leave the device" in page.inner_text("#place")


# The runtime


def test_a_folder_with_other_files_is_not_replaced(classifier, runtime, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "keep.txt").write_text("mine")
    with pytest.raises(UserError, match="photos has other files; give a new folder"):
        write_site(classifier, runtime, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["keep.txt"]
    (tmp_path / "photos" / "card.json").write_text("{}")  # as many sites have
    with pytest.raises(UserError, match="photos has other files"):
        write_site(classifier, runtime, tmp_path / "photos")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file has other files"):
        write_site(classifier, runtime, tmp_path / "file")
    for _ in range(2):  # the second export replaces the first
        write_site(classifier, runtime, tmp_path / "web")
    assert (tmp_path / "web" / "card.json").is_file()


def package(path, name="onnxruntime-web", version=web.VERSION, without=()):
    """Writes an archive such as `npm pack` does."""
    with tarfile.open(path, "w:gz") as archive:
        content = {"package.json": json.dumps({"name": name, "version": version}).encode()}
        content |= {f"dist/{file}": file.encode() for file in web.RUNTIME if file not in without}
        for file, value in content.items():
            entry = tarfile.TarInfo(f"package/{file}")
            entry.size = len(value)
            archive.addfile(entry, io.BytesIO(value))
    return path


def check_runtime(found):
    assert found["ort.js"] == b"ort.wasm.bundle.min.mjs"
    assert gzip.decompress(found["ort.wasm.gz"]) == b"ort-wasm-simd-threaded.wasm"


def test_the_runtime_is_of_a_folder_or_an_archive(tmp_path):
    archive = package(tmp_path / "onnxruntime-web-1.30.0.tgz")
    check_runtime(web.find_runtime(archive))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    for folder in (tmp_path, tmp_path / "package", tmp_path / "package" / "dist"):
        check_runtime(web.find_runtime(folder))


def test_the_runtime_is_fetched_once(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text(
        f"#!/bin/sh\ncp {package(tmp_path / 'given.tgz')} $5/onnxruntime-web-1.30.0.tgz\necho run >> {tmp_path}/log\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("FUSION_BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    for _ in range(2):
        check_runtime(web.find_runtime(None))
    assert (tmp_path / "log").read_text() == "run\n"
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {*web.RUNTIME}


def fails(text):
    return f"#!/bin/sh\necho 'npm error {text}' >&2\nexit 1\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "there is no npm to fetch it with; give a folder or archive of the npm package onnxruntime-web@1.30.0"),
        (fails("network"), "npm cannot fetch onnxruntime-web@1.30.0: npm error network; give a folder"),
        ("#!/bin/sh\n", "npm has not written the archive of onnxruntime-web@1.30.0; give a folder"),
        ("#!/bin/sh\ncp OLD $5/a.tgz\n", "is onnxruntime-web 1.2.3; onnxruntime-web 1.30.0 is right"),
    ],
)
def test_a_runtime_that_cannot_be_fetched_is_asked_for(tmp_path, monkeypatch, script, message):
    npm = tmp_path / "npm"
    if script is not None:
        npm.write_text(script.replace("OLD", str(package(tmp_path / "old.tgz", version="1.2.3"))))
        npm.chmod(0o755)
    monkeypatch.setenv("FUSION_BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None if script is None else str(npm))
    with pytest.raises(UserError, match=re.escape(message)):
        web.find_runtime(None)
    assert not (tmp_path / "cache").exists()


def test_a_given_runtime_that_lacks_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="has not the files"):
        web.find_runtime(tmp_path)
    with pytest.raises(UserError, match="is no archive of the npm package"):
        web.find_runtime(package(tmp_path / "a.tgz", without=["ort.wasm.bundle.min.mjs"]))
    with pytest.raises(UserError, match="is react 1"):
        web.find_runtime(package(tmp_path / "b.tgz", name="react"))
    (tmp_path / "c.tgz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="is no archive of the npm package"):
        web.find_runtime(tmp_path / "c.tgz")


# With a server

NAMES = ("circle", "<b>ring</b>", "a class with a name of many words and one_word_without_any_space_in_it")


def grid(name="image", shape=(8, 8, 3), dtype="uint8", neutral=(0, 0, 0)):
    return {"name": name, "kind": "grid", "shape": shape, "dtype": dtype, "neutral": neutral, "has_tokenizer": False}


def text_of(name="text", neutral: str | None = "nothing", examples=()):
    rest = {"dtype": "int32", "neutral": neutral, "has_tokenizer": True, "examples": examples}
    return {"name": name, "kind": "tokens", "shape": [9], **rest}


def card_of(classifier, *inputs, classes=NAMES):
    return describe(classifier) | {"inputs": inputs, "class_names": classes}


def spread(*values, classes=NAMES):
    return dict(zip(classes, values, strict=True))


@pytest.fixture
def both(classifier, stub):
    """A stub of an image and a text, and what it answers."""
    address, kind = stub(card_of(classifier, grid(), text_of(examples=["a <i>circle</i>"])))
    alone = {"image": spread(0.9995, 0.0002, 0.0003), "text": spread(0.3, 0.3001, 0.3999)}
    kind.answer = 200, {"label": NAMES[1], "probabilities": spread(0.25, 0.75, 0.0), "alone": alone}
    return address, kind


PIXELS = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)


def test_bars_show_what_the_server_answers(open_page, both):
    page = open_page(both[0])
    page.set_input_files("input[type=file]", upload(encoded(PIXELS)))
    page.wait_for_selector("tbody tr")
    page.fill("textarea", "a caption")
    page.wait_for_selector("th:has-text('Text alone')")
    rows = page.locator("tr").evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")
    assert rows == [
        ["Class", "Together", "Image alone", "Text alone"],
        [NAMES[1], "75.0 %", "< 0.1 %", "30.0 %"],
        [NAMES[0], "25.0 %", "> 99.9 %", "30.0 %"],
        [NAMES[2], "< 0.1 %", "< 0.1 %", "40.0 %"],
    ]
    widths = page.locator("td:nth-child(2) i").evaluate_all("bars => bars.map(bar => bar.style.width)")
    assert widths == ["75%", "25%", "0%"]
    status = page.locator("[role=status]").inner_text()
    assert status.startswith(f"{NAMES[1]}, 75.0 %")
    assert f"Image alone: {NAMES[0]}, > 99.9 %. Text alone: {NAMES[2]}, 40.0 %." in status


def parts_of(body) -> dict[Any, Any]:
    """Returns the parts of a form by their names."""
    boundary = body.split(b"\r\n")[0][2:]
    message = email.message_from_bytes(b"Content-Type: multipart/form-data; boundary=" + boundary + b"\n\n" + body)
    parts = [part for part in message.walk() if not part.is_multipart()]
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}


def test_the_server_is_sent_the_small_picture_and_the_text(open_page, both):
    address, kind = both
    page = open_page(address)
    page.set_input_files("input[type=file]", upload(encoded(PIXELS.repeat(50, 0).repeat(50, 1))))
    page.wait_for_selector("tbody tr")
    page.fill("textarea", "ein Kreis: 図")
    page.wait_for_selector("th:has-text('Text alone')")
    parts = parts_of(kind.asked[-1])
    assert {*parts} == {"image", "text", "missing", "alone"}
    assert parts["text"].decode() == "ein Kreis: 図"
    assert (parts["missing"], parts["alone"]) == (b"neutral", b"true")
    assert Image.open(io.BytesIO(parts["image"])).size == (8, 8)
    assert b'name="text"' not in kind.asked[0]  # an input that is empty is not given


def test_errors_are_shown_in_a_line_and_go_away(open_page, both):
    address, kind = both
    good, kind.answer = kind.answer, (503, {"error": "busy: ask again in a second"})
    page = open_page(address, expected=["503"])
    page.fill("textarea", "a")
    page.wait_for_selector("[role=alert]:has-text('busy: ask again in a second')")
    kind.answer = good
    page.fill("textarea", "ab")
    page.wait_for_selector("tbody tr")
    assert page.inner_text("[role=alert]") == ""
    page.set_input_files("input[type=file]", upload(b"no image"))
    page.wait_for_selector("[role=alert]:has-text('no image that the browser can read')")


def test_a_card_that_cannot_be_loaded_is_said(open_page, stub):
    address, kind = stub({})
    kind.do_GET = lambda self: self.send_error(500) if self.path == "/model" else Files.do_GET(self)
    page = open_page(address, expected=["500"])
    page.wait_for_selector("[role=alert]:has-text('The server answers 500 Internal Server Error.')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction(open_page, classifier, stub, scheme):
    classes = [*NAMES, *(f"class {i}" for i in range(20))]
    address, kind = stub(
        card_of(classifier, grid(), text_of(examples=["a " * 50]), grid("depth", (8, 8, 1)), classes=classes)
    )
    found = dict.fromkeys(classes, 1 / len(classes))
    kind.answer = 200, {"probabilities": found, "alone": {"image": found, "text": found, "depth": None}}
    page = open_page(address, width=360, scheme=scheme)
    page.locator("input[type=file]").first.set_input_files(upload(encoded(np.zeros((20, 900, 3), np.uint8))))
    page.fill("textarea", "word" * 100)
    page.wait_for_selector("th:has-text('Text alone')")
    assert page.locator("tbody tr").count() == 10
    page.click("text=Show all 23 classes")
    assert page.locator("tbody tr").count() == 23
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    assert dark == (scheme == "dark")
    page.click("text=Show the 10 best")
    assert page.locator("tbody tr").count() == 10


def test_a_model_of_one_modality_has_one_column(open_page, classifier, stub):
    address, kind = stub(card_of(classifier, grid()))
    kind.answer = 200, {"probabilities": spread(0.2, 0.3, 0.5), "alone": {"image": spread(0.2, 0.3, 0.5)}}
    page = open_page(address)
    assert page.locator("textarea").count() == 0
    page.set_input_files("input[type=file]", upload(encoded(PIXELS)))
    page.wait_for_selector("tbody tr")
    assert page.locator("thead th").all_inner_texts() == ["Class", "Probability"]
    page.click("text=Remove")
    page.wait_for_selector("[role=status]:has-text('To start, choose an image.')")
    assert page.locator("table").is_hidden()


def test_what_the_page_cannot_take_stays_neutral_or_is_missing(open_page, classifier, stub):
    vector = grid("weather", (7,), "float32", [0.0] * 7) | {"kind": "vector"}
    address, kind = stub(card_of(classifier, text_of(), vector))
    kind.answer = (
        200,
        {"probabilities": spread(0.2, 0.3, 0.5), "alone": {"text": spread(0.2, 0.3, 0.5), "weather": None}},
    )
    page = open_page(address)
    page.fill("textarea", "a")
    page.wait_for_selector("[role=status]:has-text('Neutral: weather.')")
    assert page.locator("text=This page cannot take weather (vector, 7): it stays neutral.").is_visible()

    address, kind = stub(card_of(classifier, text_of(neutral=None), grid("audio", (64, 32, 2), neutral=None)))
    page = open_page(address)
    page.fill("textarea", "a")
    page.wait_for_selector("[role=status]:has-text('Still needed: audio.')")
    assert page.locator("text=and the model needs it").is_visible()
    assert kind.asked == []


def test_the_page_is_used_from_the_keyboard(open_page, both):
    page = open_page(both[0])
    page.wait_for_selector("textarea")
    focused = []
    for _ in range(4):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.tagName"))
        around = page.evaluate("(e => getComputedStyle(e.closest('.drop') ?? e).outlineStyle)(document.activeElement)")
        assert around != "none"
    assert focused == ["INPUT", "TEXTAREA", "BUTTON", "SUMMARY"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("tbody tr")
    assert page.input_value("textarea") == "a <i>circle</i>"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_images_are_dropped_and_pasted(open_page, both, way):
    page = open_page(both[0])
    page.wait_for_selector("textarea")
    page.evaluate(
        """([way, image]) => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(image), c => c.charCodeAt());
          data.items.add(new File([bytes], "a.png", { type: "image/png" }));
          const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
          const event = way === "drop" ? new DragEvent("drop", options) : new ClipboardEvent("paste", options);
          document.querySelector("textarea").dispatchEvent(event);
        }""",
        [way, base64.b64encode(encoded(PIXELS)).decode()],
    )
    page.wait_for_selector("tbody tr")
    assert page.locator("text=What the model sees: 8 × 8 pixels").is_visible()


def test_typing_asks_rarely_and_shows_the_last(open_page, both):
    address, kind = both
    page = open_page(address)
    page.locator("textarea").press_sequentially("a long caption", delay=10)
    page.wait_for_selector("tbody tr")
    page.wait_for_timeout(400)
    assert len(kind.asked) <= 2
    assert b"a long caption" in kind.asked[-1]


def test_the_page_has_neither_inline_code_nor_foreign_addresses():
    text = (page_files.FOLDER / "index.html").read_text(encoding="utf-8")
    assert " style=" not in text
    assert re.findall(r"<script[^>]*>", text) == ['<script type="module" src="page.js">']
    assert not any(
        "//" in line.split("// ")[0]
        for name in page_files.FILES
        for line in (page_files.FOLDER / name).read_text().splitlines()
    )
