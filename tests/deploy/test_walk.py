"""The walk of docs/deploy.md, from `make bench` to a prediction in the browser, command by command."""

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
QUICK = "--seeds 1 --epochs 1 --train-size 600 --test-size 100 --strategies concat --workers 1"


def commands():
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    return block.strip().splitlines()


def call(line, folder, more=""):
    """Runs a command of the page as a module of this Python, in the folder; returns what it prints."""
    words = shlex.split(f"{line} {more}")
    assert words[0] == ".venv/bin/fusion-bench"
    words = [str(ROOT / word) if word.startswith("docs/") else word for word in words[1:]]
    done = subprocess.run([sys.executable, "-m", "fusion_bench", *words], cwd=folder, capture_output=True, text=True)
    if "npm cannot fetch" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def serving(line, folder):
    """Runs the page's server on a free port, and gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shlex.split(line)
    assert words[:3] == ["python3", "-m", "http.server"]
    assert words[-1].isdecimal()
    command = [sys.executable, *words[1:-1], str(port)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm, which fetches ONNX Runtime for browsers")
def test_five_commands_from_a_study_to_a_prediction_in_the_browser(open_page, tmp_path):
    bench, install, predict, export, serve = commands()
    assert bench == "make bench"
    recipe = re.search(r"^bench:.*\n\t@\$\(BIN\)/(.*) \$\(ARGS\)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    call(f".venv/bin/{recipe[1]}", tmp_path, QUICK)

    assert shlex.split(install)[:3] == [".venv/bin/pip", "install", "--constraint"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"\[(.*)\]", install)
    assert {*wanted.split(",")} <= {*extras}

    label, share, *_ = call(predict, tmp_path).split()
    call(export, tmp_path)
    words = shlex.split(predict)
    image, text = (words[words.index(flag) + 1] for flag in ("--image", "--text"))
    with serving(serve, tmp_path) as address:
        page = open_page(address)
        page.set_input_files("input[type=file]", ROOT / image)
        page.fill("textarea", text)
        page.wait_for_selector("th:has-text('Text alone')")
        first = page.locator("tbody tr").first
        assert first.locator("td, th").nth(0).inner_text() == label
        assert first.locator("td, th").nth(1).inner_text().startswith(f"{share} %")
