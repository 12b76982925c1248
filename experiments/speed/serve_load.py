"""How many requests a second does `fusion-bench serve` answer, and what does it do with more than it can?

    python experiments/speed/serve_load.py DIR RUN [--seconds 5] [--overload 60] [--memory 100000] [--out DIR]

The server has a process of its own; the clients have another, keep their connections, and send the same few examples
in turn: random images as PNG, and texts. Each number of clients is measured on the server, and on the same server that
predicts one example at once. For comparison one process reads and predicts the same requests one after the other
without HTTP, and another one so in batches of 64. `--overload` sends twice as many requests as are answered at
64 clients, at fixed times, whatever the answers; `--memory` sends many requests and looks at the server's memory.
uvicorn uses uvloop and httptools where they are installed; httptools refuses surplus requests at a lower cost.
"""

import asyncio
import base64
import contextlib
import dataclasses
import io
import json
import multiprocessing
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import psutil
import tyro
from PIL import Image
from rich.console import Console

from fusion_bench.report.listing import Listing
from fusion_bench.study.provenance import describe_environment

HOST = "127.0.0.1"
DISTINCT = 64
"""Number of different requests."""
CONNECTIONS = 1000
"""Open at the same time under overload, at most."""
IDLE = 2.0
"""Seconds after which a connection is not used again, as the server may just be closing it."""
USUAL = 64
"""Number of clients that the comparison and the overload refer to."""
BOUNDARY = b"--------boundary"


@dataclasses.dataclass(frozen=True)
class Config:
    """Load on a server of a stored run."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The --out directory of `fusion-bench run`."""
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run, for example concat-s0."""
    clients: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Numbers of clients."""
    seconds: float = 5.0
    """Time of each measurement."""
    form: Literal["json", "multipart"] = "multipart"
    """Form of a request."""
    overload: float = 0.0
    """Seconds of twice the capacity; 0 leaves it out."""
    memory: int = 0
    """Requests during which memory is looked at; 0 leaves it out."""
    out: Path = Path("runs/serve-load")
    """Directory of table.md and load.json."""


# ------------------------------------------------------------------------------------------------------- the server


def serve_process(connection: Connection, config: Config, batch: int) -> None:
    """Serves with batches of at most `batch`; sends the port once it listens."""
    from fusion_bench.deploy.model import load_classifier
    from fusion_bench.deploy.serve.app import make_app
    from fusion_bench.deploy.serve.limits import Limits
    from fusion_bench.deploy.serve.server import bind, serve

    limits = Limits(batch=batch)
    with bind(HOST, 0) as bound:
        app = make_app(load_classifier(config.directory, config.run), limits)
        serve(app, bound, limits, lambda: connection.send(bound.getsockname()[1]))


def direct_process(connection: Connection, config: Config, batch: int, card: dict[str, Any]) -> None:
    """Sends the examples per second that one process reads and predicts without HTTP, `batch` at once."""
    from fusion_bench.deploy.model import load_classifier
    from fusion_bench.deploy.serve.limits import Limits
    from fusion_bench.deploy.serve.predictor import Predictor
    from fusion_bench.deploy.serve.requests import read_question

    classifier = load_classifier(config.directory, config.run)
    predictor, limits = Predictor(classifier, batch), Limits()
    predictor.warm()
    requests = [make_body(card, config.form, seed) for seed in range(DISTINCT)]
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < config.seconds:
        asked = (requests[(count + index) % DISTINCT] for index in range(batch))
        predictor.predict([read_question(classifier, limits, kind, body).arrays for kind, body in asked])
        count += batch
    connection.send(count / (time.perf_counter() - start))


@contextlib.contextmanager
def started(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[Any, psutil.Process]]:
    """Starts a process, and gives the first that it sends."""
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield connection.recv(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join()


# ------------------------------------------------------------------------------------------------------ the clients


def make_body(card: dict[str, Any], form: str, seed: int) -> tuple[str, bytes]:
    """Returns content type and body of a request with random inputs of a model."""
    rng = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    fields: dict[str, Any] = {}
    for entry in card["inputs"]:
        if entry["dtype"] == "uint8" and entry["shape"][-1] in (1, 3):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, entry["shape"], np.uint8).squeeze()).save(stream, "PNG")
            files[entry["name"]] = stream.getvalue()
        elif entry["kind"] == "tokens":
            fields[entry["name"]] = f"a photo of a {rng.choice(card['class_names'])}"
        else:
            fields[entry["name"]] = rng.normal(size=entry["shape"]).round(3).tolist()
    if form == "json":
        images = {name: base64.b64encode(content).decode() for name, content in files.items()}
        return "application/json", json.dumps({**fields, **images}).encode()
    parts = [(f'name="{name}"', str(value).encode()) for name, value in fields.items()]
    parts += [(f'name="{name}"; filename="{name}.png"', content) for name, content in files.items()]
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY, head.encode(), content)
        for head, content in parts
    )
    return f"multipart/form-data; boundary={BOUNDARY.decode()}", body + b"--%b--\r\n" % BOUNDARY


def make_request(card: dict[str, Any], form: str, seed: int) -> bytes:
    kind, body = make_body(card, form, seed)
    head = f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """A connection that is kept, with one request at a time."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.since = time.perf_counter()
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0 or self.answer is None or self.answer.done():
            return
        head = self.received[:end].lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self.received) >= end + 4 + length:
            self.answer.set_result((int(head[9:12]), bytes(self.received[end + 4 :])))
            self.received.clear()
            self.since = time.perf_counter()
            if b"connection: close" in head:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Returns status and body of the answer; of a connection too many it is there before the request."""
        self.answer = asyncio.get_running_loop().create_future()
        self.data_received(b"")
        if not self.answer.done():
            if self.transport.is_closing():
                raise ConnectionError("the server closed the connection")
            self.transport.write(request)
        return await self.answer

    @classmethod
    async def connect(cls, port: int) -> "Client":
        _, client = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        return client


async def get_card(port: int) -> dict[str, Any]:
    client = await Client.connect(port)
    _, body = await client.ask(f"GET /model HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    client.transport.close()
    return json.loads(body)


def summary(seconds: float, latencies: list[float], statuses: Counter[int]) -> dict[str, Any]:
    p50, p99 = 1e3 * np.quantile(latencies, (0.5, 0.99)) if latencies else (np.nan, np.nan)
    counts = {str(status): count for status, count in statuses.items()}
    return {"per_second": statuses[200] / seconds, "p50_ms": float(p50), "p99_ms": float(p99), "statuses": counts}


async def closed_loop(port: int, requests: list[bytes], clients: int, seconds: float, count: int = 0) -> dict[str, Any]:
    """Asks again after each answer, for some seconds or until `count` requests are sent."""
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    start = time.perf_counter()

    async def one(number: int) -> None:
        client = await Client.connect(port)
        asked = number
        while len(latencies) < count if count else time.perf_counter() - start < seconds:
            before = time.perf_counter()
            status, _ = await client.ask(requests[asked % len(requests)])
            latencies.append(time.perf_counter() - before)
            statuses[status] += 1
            asked += 1
        client.transport.close()

    await asyncio.gather(*map(one, range(clients)))
    return {"clients": clients, **summary(time.perf_counter() - start, latencies, statuses)}


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Asks at fixed times, whatever the answers; counts each answer, and requests that have none.

    A request waits, as part of its latency, where `CONNECTIONS` are in use: more would be refused by the system.
    """
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    free: list[Client] = []
    lost: Counter[str] = Counter()
    connections = asyncio.Semaphore(CONNECTIONS)

    async def one(number: int, before: float) -> None:
        async with connections:
            await ask(number, before)

    async def ask(number: int, before: float) -> None:
        try:
            while free and (free[-1].transport.is_closing() or time.perf_counter() - free[-1].since > IDLE):
                free.pop().transport.close()
            client = free.pop() if free else await Client.connect(port)
            status, _ = await client.ask(requests[number % len(requests)])
        except OSError as error:
            lost[type(error).__name__] += 1
            return
        statuses[status] += 1
        if status == 200:
            latencies.append(time.perf_counter() - before)
        if not client.transport.is_closing():
            free.append(client)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        sent = 0
        while (now := time.perf_counter() - start) < seconds:
            while sent < now * rate:
                group.create_task(one(sent, time.perf_counter()))
                sent += 1
            await asyncio.sleep(0.002)
    found = summary(time.perf_counter() - start, latencies, statuses)
    return {"sent": sent, "sent_per_second": sent / seconds, **found, "lost": dict(lost)}


# ----------------------------------------------------------------------------------------------------------- the runs


def run_client(work: Any) -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def measure_server(config: Config, batch: int) -> dict[str, Any]:
    """Returns the numbers of one server, with its model's card."""
    with started(serve_process, config, batch) as (port, process):
        card = run_client(get_card(port))
        requests = [make_request(card, config.form, seed) for seed in range(DISTINCT)]
        run_client(closed_loop(port, requests, USUAL, 1.0))  # all threads and connections have been used
        loads = [run_client(closed_loop(port, requests, clients, config.seconds)) for clients in config.clients]
        found: dict[str, Any] = {"card": card, "loads": loads}
        if batch > 1 and config.overload:
            usual = run_client(closed_loop(port, requests, USUAL, config.seconds))["per_second"]
            found["overload"] = {"capacity": usual, **run_client(open_loop(port, requests, 2 * usual, config.overload))}
        if batch > 1 and config.memory:
            found["memory"] = []
            for tenth in range(11):
                found["memory"].append({"requests": tenth * config.memory // 10, "rss": process.memory_info().rss})
                if tenth < 10:
                    run_client(closed_loop(port, requests, USUAL, 0, config.memory // 10))
    return found


def listing(found: dict[str, Any]) -> Listing:
    """Returns the table: a row for each number of clients."""
    rows = []
    for ours, theirs in zip(found["batched"]["loads"], found["one_by_one"], strict=True):
        cells = [f"{row[key]:,.{digits}f}" for row in (ours, theirs) for key, digits in
                 (("per_second", 0), ("p50_ms", 1), ("p99_ms", 1))]  # fmt: skip
        rows.append([str(ours["clients"]), *cells, f"{ours['per_second'] / theirs['per_second']:.2f}"])
    notes = [
        "p50 and p99: milliseconds until the answer. One by one: the same server with batches of 1.",
        "Without HTTP, in one process: {:,.0f} examples/s one by one, {:,.0f} in batches of 64.".format(
            *found["direct"].values()
        ),
        *_overload(found["batched"]),
        *_memory(found["batched"]),
        f"{found['run']}, {found['form']}; clients and server share the machine. Commit {found['commit']}, "
        f"{found['device']}.",
    ]
    header = ["clients", "requests/s", "p50", "p99", "one by one,\nrequests/s", "p50", "p99", "ratio"]
    return Listing("Load on the server", header, rows, notes, "r" * len(header), is_whole=True)


def _overload(found: dict[str, Any]) -> Iterator[str]:
    if "overload" in found:
        load = found["overload"]
        statuses = ", ".join(f"{count:,} × {status}" for status, count in sorted(load["statuses"].items()))
        yield (
            f"Twice the capacity of {load['capacity']:,.0f} requests/s at {USUAL} clients: {load['sent']:,} sent, "
            f"answers {statuses}, lost {sum(load['lost'].values())}; {load['per_second']:,.0f} predictions/s, p50 "
            f"{load['p50_ms']:,.0f} ms, p99 {load['p99_ms']:,.0f} ms."
        )


def _memory(found: dict[str, Any]) -> Iterator[str]:
    if "memory" in found:
        sizes = [f"{entry['rss'] / 1e6:.1f}" for entry in found["memory"]]
        count = found["memory"][-1]["requests"]
        yield f"Memory of the server in MB, at each tenth of {count:,} requests: {', '.join(sizes)}."


def is_well(found: dict[str, Any]) -> bool:
    """Returns whether each request was answered by 200 or 503, and memory did not grow after the first tenth.

    The memory of fewer than 10,000 requests is not judged.
    """
    overload = found.get("overload", {"statuses": {}, "lost": {}})
    memory = [entry["rss"] for entry in found.get("memory", ())][1:]  # the first tenth fills caches
    is_answered = {*overload["statuses"]} <= {"200", "503"} and not overload["lost"]
    is_judged = bool(memory) and found["memory"][-1]["requests"] >= 10_000
    return is_answered and (not is_judged or memory[-1] < 1.02 * memory[0])


def main(config: Config) -> int:
    """Measures, prints the table, and returns the exit status: 1 if a request is lost or memory grows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))  # a connection is a file
    batched, single = measure_server(config, 64), measure_server(config, 1)
    card = batched.pop("card")
    direct: dict[str, float] = {}
    for size in (1, 64):
        with started(direct_process, config, size, card) as (per_second, _):
            direct[str(size)] = per_second
    environment = describe_environment()
    found = {"run": card["run"], "form": config.form, "batched": batched, "one_by_one": single["loads"]}
    found |= {"direct": direct, "commit": environment["commit"], "device": environment["device"]}
    table = listing(found)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "load.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (config.out / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    Console().print(table)
    return 0 if is_well(batched) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
