"""The process that serves an application: its socket, slow and surplus clients, and its end."""

import asyncio
import contextlib
import gc
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from fusion_bench.deploy.serve.guard import HEADERS
from fusion_bench.deploy.serve.limits import Limits
from fusion_bench.errors import UserError, cause

SWITCH = 1e-4
"""Seconds until a thread gets the interpreter's lock from one that computes. A decoder gives it away several times an
image; with Python's 5 ms a busy event loop would leave it 200 images a second."""
LINGER, LINGERING = 0.5, 128
"""Seconds in which a surplus client must have read that it is one, and the number of such clients: each is an open
file."""
SPARE = 256
"""Files that a server opens beside its connections, at most."""
GRACE = 30
"""Seconds in which accepted requests are answered after a signal to end."""


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket of an address, which does not listen yet.

    Raises:
      UserError: the address is not free, or not of this machine.
    """
    with contextlib.ExitStack() as stack:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as error:
            raise UserError(f"{host}:{port} cannot be served: {cause(error)}") from error
        stack.pop_all()
        return bound


def serve(app: ASGIApp, bound: socket.socket, limits: Limits, ready: Callable[[], None]) -> None:
    """Serves an application until SIGTERM or SIGINT, then answers what is accepted, and returns.

    Args:
      app: the application.
      bound: its socket.
      limits: of connections and of the time that a request takes to come.
      ready: called once it listens.
    """
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    _allow_files(limits.connections + LINGERING + SPARE)
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()  # the millions of objects of JAX are not looked through again, which would stop all requests
    _Server(config, ready).run(sockets=[bound])


def _allow_files(count: int) -> None:
    """Raises the number of files that this process may open, as far as the system allows: each connection is one."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # there is no such limit, or it is lower
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


class _Server(uvicorn.Server):
    """Ends at a signal, without raising it again: the exit status is 0."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _raw(status: str, line: str, *headers: str) -> bytes:
    """Returns an answer as it is sent, which ends its connection."""
    body = json.dumps({"error": line})
    named = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **HEADERS}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items()), *headers, "", body]
    return "\r\n".join(lines).encode()


_INVALID = _raw("400 Bad Request", "this is not HTTP/1.1")
_SURPLUS = _raw("503 Service Unavailable", "too many connections are open; try again", "retry-after: 1")
_LATE = _raw("408 Request Timeout", "the head of the request did not come in time")


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Returns uvicorn's protocol with a bound on connections and on the time of a request's head."""
    lingering: set[asyncio.Protocol] = set()

    class Bounded(AutoHTTPProtocol):
        """One connection. Uvicorn has neither bound: its own timeout ends at the first byte of a request."""

        transport: Any
        connections: Any
        cycle: Any
        loop: asyncio.AbstractEventLoop
        _timer: asyncio.TimerHandle | None = None
        _is_surplus = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._send_away(transport)
            else:
                self._expect()

        def _send_away(self, transport: Any) -> None:
            """Answers, and waits a little for the client to end: a request that comes later would undo the answer."""
            self.connections.discard(self)
            self._is_surplus = True
            transport.write(_SURPLUS)
            if len(lingering) >= LINGERING:
                transport.close()
                return
            lingering.add(self)
            transport.write_eof()
            self._timer = self.loop.call_later(LINGER, transport.close)

        def data_received(self, data: bytes) -> None:
            if not self._is_surplus:
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            lingering.discard(self)
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._expect()
            super().on_response_complete()  # pyright: ignore[reportAttributeAccessIssue]

        def send_400_response(self, msg: str) -> None:
            self.transport.write(_INVALID)
            self.transport.close()

        def _expect(self) -> None:
            """Ends the connection unless another request has begun in time."""
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(limits.seconds, self._check, self.cycle)

        def _check(self, before: Any) -> None:
            is_idle = before is None or before.response_complete
            if self.cycle is before and is_idle and not self.transport.is_closing():
                self.transport.write(_LATE)
                self.transport.close()

    return Bounded
