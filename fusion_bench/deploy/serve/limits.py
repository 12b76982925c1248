"""Bounds on what a server accepts. Each one has a test."""

import dataclasses

from fusion_bench.deploy.images import MAX_PIXELS

MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
      body: bytes of a request.
      held: bytes of all bodies in memory; a request beyond them has the answer 503.
      examples: number in one request.
      pixels: of an image, and of all images of a request with `examples`, as headers state it, before any is decoded.
      waiting: rows that are accepted and not yet predicted; a request beyond them has the answer 503.
      connections: open at the same time; a further one has the answer 503 and is closed.
      seconds: in which the head of a request must have come, and again its body.
      batch: examples that are predicted at once.
      wait: seconds that an example waits for others, at most, while others are being decoded.
    """

    body: int = 8 * MEBIBYTE
    held: int = 64 * MEBIBYTE
    examples: int = 64
    pixels: int = MAX_PIXELS
    waiting: int = 512
    connections: int = 2048
    seconds: float = 10.0
    batch: int = 64
    wait: float = 0.002
