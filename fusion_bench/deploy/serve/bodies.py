"""Bodies of requests, read with a bound on their size, on their time, and on the memory of all of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.exceptions import HTTPException
from starlette.requests import Request

from fusion_bench.deploy.serve.guard import RETRY
from fusion_bench.deploy.serve.limits import Limits

CLOSE = {"connection": "close"}
"""Header of an answer that comes before the body is read: its rest is not waited for."""


class Bodies:
    """Reads bodies, and counts the bytes of those in use."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Gives a body, whose bytes count as held inside the block.

        Raises:
          HTTPException: 408, 413 or 503.
        """
        chunks: list[bytes] = []
        size, limits = 0, self.limits
        try:
            declared = request.headers.get("content-length", "")
            if declared.isdecimal() and int(declared[:20]) > limits.body:
                raise too_large(limits, CLOSE)
            try:
                async with asyncio.timeout(limits.seconds):
                    async for chunk in request.stream():
                        chunks.append(chunk)
                        size += len(chunk)
                        self.held += len(chunk)
                        if size > limits.body:
                            raise too_large(limits, CLOSE)
                        if self.held > limits.held:
                            raise HTTPException(503, "too many bodies are in memory; try again", RETRY | CLOSE)
            except TimeoutError as error:
                line = f"the body did not come within {limits.seconds:g} seconds"
                raise HTTPException(408, line, CLOSE) from error
            yield b"".join(chunks)
        finally:
            self.held -= size


def too_large(limits: Limits, headers: dict[str, str] | None = None) -> HTTPException:
    """Returns the error of a body beyond its limit."""
    line = f"the body is too large; at most {limits.body:,} bytes are right"
    return HTTPException(413, line, headers)
