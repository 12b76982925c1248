"""The outermost layer of the application: hosts, headers of security, metrics, and errors that say nothing inside."""

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusion_bench.deploy.serve.metrics import OTHER, Metrics

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files alone; blob: and data: are the image that a user chose, before it is sent."""
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
PREDICT = "/predict"
RETRY = {"retry-after": "1"}
FULL = "too many requests are waiting; try again"
FAULT = "the server failed at this request; its log says why"

_log = logging.getLogger("fusion_bench.serve")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?")
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def as_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer in JSON."""
    return Response(json.dumps(content), status, headers, "application/json")


def refuse(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns the answer to a request that cannot be met."""
    return as_response({"error": line}, status, headers)


class Guard:
    """Passes requests on to an application.

    Args:
      app: the application.
      routes: paths that have metrics of their own.
      hosts: names in a request's Host header that are accepted, against DNS rebinding; None accepts all.
      metrics: told each answer.
      is_full: returns whether predictions are refused, which under overload must cost as little as possible.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Collection[str],
        hosts: Collection[str] | None,
        metrics: Metrics,
        is_full: Callable[[], bool],
    ):
        self.app, self.routes, self.hosts, self.metrics = app, frozenset(routes), hosts, metrics
        self.is_full = is_full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_RAW]
            await send(message)

        try:
            if not self._is_accepted(scope):
                await refuse(400, f"the Host header must be {' or '.join(self.hosts or ())}")(scope, receive, send_on)
            elif scope["path"] == PREDICT and self.is_full():
                await refuse(503, FULL, RETRY)(scope, receive, send_on)
            else:
                await self.app(scope, receive, send_on)
        except Exception:  # the answer is one line, the log has it all
            _log.exception("a request failed")
            if not status:
                await refuse(500, FAULT)(scope, receive, send_on)
        finally:
            route = scope["path"] if scope["path"] in self.routes else OTHER
            self.metrics.observe(route, status, time.perf_counter() - start)

    def _is_accepted(self, scope: Scope) -> bool:
        if self.hosts is None:
            return True
        found = _HOST.fullmatch(Headers(scope=scope).get("host", ""))
        return found is not None and found[1].lower() in self.hosts
