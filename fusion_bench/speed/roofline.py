"""Place of a strategy under the device's two ceilings, and the knee of its sweep over batch sizes."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from fusion_bench.speed.record import KINDS, Ceilings, DeviceSpeed, Measurement

NEAR_BEST = 0.9
"""The knee is the smallest batch size with at least this fraction of the highest rate."""
OVERHEAD = 0.1
"""Fraction of both ceilings below which a program is bound by neither."""
Bound = Literal["compute", "memory", "overhead"]


@dataclasses.dataclass(frozen=True)
class RooflinePoint:
    """A measurement on the device's roofline.

    Attributes:
      intensity: operations per byte moved, FLOP/byte.
      flops_per_s: achieved.
      bytes_per_s: moved.
      of_matmul: fraction of the matrix product's FLOP/s.
      of_memory: fraction of the array's bytes/s; above 1 if caches serve most bytes.
      bound: the nearer ceiling; "overhead" if both are far.
    """

    intensity: float
    flops_per_s: float
    bytes_per_s: float
    of_matmul: float
    of_memory: float
    bound: Bound

    @property
    def share(self) -> float:
        """Fraction of the nearer ceiling."""
        return max(self.of_matmul, self.of_memory)


def fastest(points: Sequence[Measurement]) -> Measurement:
    """Returns the batch size with the highest median rate."""
    return max(points, key=lambda point: point.examples_per_s.median)


def knee(points: Sequence[Measurement]) -> Measurement:
    """Returns the smallest batch size whose median rate is at least `NEAR_BEST` of the highest."""
    enough = NEAR_BEST * fastest(points).examples_per_s.median
    reach = (point for point in points if point.examples_per_s.median >= enough)
    return min(reach, key=lambda point: point.batch_size)


def is_open(points: Sequence[Measurement]) -> bool:
    """Returns whether the knee is the largest size of the sweep, so that the true one may lie beyond."""
    return len(points) > 1 and knee(points).batch_size == max(point.batch_size for point in points)


def place(point: Measurement, ceilings: Ceilings) -> RooflinePoint | None:
    """Returns a measurement's place; None if the compiler counts no operations or no bytes.

    Achieved FLOP/s over the roof min(P, intensity · B), with P the matrix product's FLOP/s and B the array's bytes/s,
    is the larger of the two fractions, which gives the bound.

    Source: Williams et al., Roofline, CACM 52(4), 2009.
    """
    if not point.flops or not point.moved_bytes:
        return None
    rate = point.examples_per_s.median
    flops_per_s, bytes_per_s = point.flops * rate, point.moved_bytes * rate
    of_matmul = flops_per_s / ceilings.flops_per_s.median
    of_memory = bytes_per_s / ceilings.bytes_per_s.median
    nearer: Bound = "compute" if of_matmul >= of_memory else "memory"
    bound: Bound = nearer if max(of_matmul, of_memory) >= OVERHEAD else "overhead"
    return RooflinePoint(point.flops / point.moved_bytes, flops_per_s, bytes_per_s, of_matmul, of_memory, bound)


def derive(speed: DeviceSpeed) -> dict[str, Any]:
    """Returns knee, fastest batch size and places on the roofline of each strategy's training and inference."""
    derived: dict[str, Any] = {row.strategy: {} for row in speed.strategies}
    for row in speed.strategies:
        for kind in KINDS:
            if points := row.points(kind):
                places = {point.batch_size: place(point, speed.ceilings) for point in points}
                derived[row.strategy][kind] = {
                    "knee": knee(points).batch_size,
                    "knee_is_open": is_open(points),
                    "fastest": fastest(points).batch_size,
                    "roofline": {size: found and dataclasses.asdict(found) for size, found in places.items()},
                }
    return derived
