"""The server as a process: its address, slow and surplus clients, invalid HTTP, and its end by a signal."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.deploy.serving import example
from tests.experiments.loading import EXPERIMENTS

SECONDS = 1.0
CONNECTIONS = 8
SCRIPT = f"""
import sys
import fusion_bench.deploy.serve.app
from fusion_bench.deploy.serve import limits
usual = limits.Limits
limits.Limits = lambda: usual(seconds={SECONDS}, connections={CONNECTIONS})
from fusion_bench.cli import main
main(sys.argv[1:])
"""


@contextlib.contextmanager
def started(plain, *arguments, script=SCRIPT):
    """Starts `fusion-bench serve` at a free port; gives the process and the port."""
    words = ["serve", plain.config.out, plain.stored("concat").id, "--port", "0", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert " is served at http://" in line, process.stderr.read()
        yield process, int(line.rsplit(":", 1)[1])
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(plain):
    with started(plain) as (process, port):
        yield port
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=15)


def request(body: bytes, path=b"/predict", method=b"POST", length=None) -> bytes:
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (method, path, len(body) if length is None else length) + body


def read_all(client) -> bytes:
    """Returns all that comes until the connection ends."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return received


def read_answer(client) -> tuple[int, dict]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return int(head[9:12]), json.loads(body)


def closed_with(received: bytes, status: int) -> None:
    assert received.startswith(b"HTTP/1.1 %d " % status)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    assert list(json.loads(body)) == ["error"]


def test_a_real_request_and_loopback_alone(port):
    with connect(port) as client:
        for _ in range(3):  # the connection is kept
            client.sendall(request(json.dumps(example()).encode()))
            status, answer = read_answer(client)
            assert status == 200
            assert "label" in answer
    addresses = {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError, match=r"refused|unreachable"):
            socket.create_connection((address, port), timeout=5)


@pytest.mark.parametrize("first", [b"P", b"POST /pred", request(b"", b"/health", b"GET") + b"GET /"])
def test_a_head_that_does_not_come_in_time(port, first):
    with connect(port) as client:
        start = time.monotonic()
        for byte in (first, b"O", b"S", b"T"):  # a byte from time to time does not help
            client.sendall(byte)
            time.sleep(SECONDS / 4)
        received = read_all(client)
        assert SECONDS * 0.8 < time.monotonic() - start < 4 * SECONDS
    if first.endswith(b"GET /"):
        received = received.partition(b"}")[2]
    closed_with(received, 408)


def test_a_body_that_does_not_come_in_time(port):
    with connect(port) as client:
        client.sendall(request(b"{", length=100))
        time.sleep(SECONDS / 2)
        client.sendall(b" ")
        closed_with(read_all(client), 408)


def test_a_body_that_nobody_reads_does_not_keep_a_connection(port):
    with connect(port) as client:
        client.sendall(request(b"{", b"/health", b"GET", length=100))
        start = time.monotonic()
        assert b'"status": "ok"' in read_all(client)
        assert time.monotonic() - start < 4 * SECONDS


def test_a_body_that_is_too_large_on_a_socket(port):
    with connect(port) as client:
        client.sendall(request(b"", length=1 << 40))
        closed_with(read_all(client), 413)
    with connect(port) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with contextlib.suppress(ConnectionError):
            client.sendall(head + 200 * chunk)
        received = read_all(client)
        assert not received or received.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00" * 30 + b"\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"]
)
def test_what_is_not_http(port, sent):
    with connect(port) as client:
        client.sendall(sent)
        closed_with(read_all(client), 400)


def test_more_connections_than_allowed(port):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(CONNECTIONS)]
        time.sleep(0.2)
        surplus = stack.enter_context(connect(port))
        time.sleep(0.2)
        surplus.sendall(request(b"", b"/health", b"GET"))  # does not undo the answer, which is there already
        time.sleep(0.2)
        received = read_all(surplus)
        closed_with(received, 503)
        assert b"retry-after: 1" in received
        clients[0].sendall(request(b"", b"/health", b"GET"))
        assert read_answer(clients[0])[0] == 200


def test_a_signal_ends_it_after_the_requests_that_it_has(plain):
    slow = SCRIPT.replace(
        "from fusion_bench.cli import main",
        """
import time
from fusion_bench.deploy.serve.predictor import Predictor
usual_predict = Predictor.predict
Predictor.predict = lambda self, groups: (time.sleep(1), usual_predict(self, groups))[1]
from fusion_bench.cli import main""",
    )
    with started(plain, script=slow) as (process, port):
        found = []

        def one():
            with connect(port) as client:
                client.sendall(request(json.dumps(example()).encode()))
                found.append(read_answer(client))

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        _, err = process.communicate(timeout=20)
        assert [status for status, _ in found] == [200] * 3
        assert (process.returncode, err) == (0, "")


def test_what_cannot_be_served_is_a_line(plain, refuse, monkeypatch):
    out, run = plain.config.out, plain.stored("concat").id
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        line = refuse(out, run, "--port", number, command="serve")
        assert f"127.0.0.1:{number} cannot be served" in line
    assert "--port is 70000" in refuse(out, run, "--port", 70000, command="serve")
    assert "cannot be served" in refuse(out, run, "--host", "192.0.2.1", command="serve")
    assert "none-s9" in refuse(out, "none-s9", "--port", 0, command="serve")
    monkeypatch.setattr("fusion_bench.cli.serve.NEEDED", ("no_such_package",))
    assert "pip install 'fusion-bench-jax[serve]'" in refuse(out, run, command="serve")


def test_load(plain, tmp_path):
    out = tmp_path / "load"
    words = [plain.config.out, "concat-s0", "--clients", 1, 4, "--seconds", 0.2, "--overload", 0.3, "--memory", 200]
    command = [sys.executable, EXPERIMENTS / "speed" / "serve_load.py", *words, "--out", out]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "one by one" in done.stdout
    found = json.loads((out / "load.json").read_text(encoding="utf-8"))
    for loads in (found["batched"]["loads"], found["one_by_one"]):
        assert [set(load["statuses"]) for load in loads] == [{"200"}, {"200"}]
    answered = found["batched"]["overload"]
    assert sum(answered["statuses"].values()) == answered["sent"]
    assert set(answered["statuses"]) <= {"200", "503"}
    assert found["batched"]["memory"][-1]["requests"] == 200
    assert list(found["direct"]) == ["1", "64"]
