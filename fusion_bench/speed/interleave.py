"""Interleaved timing: every case is timed once per repetition, so that a drift of the machine affects all alike."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Report = Callable[[str], None]


def rounds(cases: Sequence[T], repetitions: int) -> Iterator[tuple[int, T]]:
    """Yields every case once per repetition, alternately forwards and backwards.

    After an even number of repetitions a steady drift of the machine cancels in the mean and in the median.
    """
    for repetition in range(1, repetitions + 1):
        for case in cases if repetition % 2 else reversed(cases):
            yield repetition, case


def interleaved(
    turns: Mapping[Any, Callable[[], Sequence[float]]], repetitions: int, report: Report
) -> dict[Hashable, list[float]]:
    """Returns the samples of each case, taken once per repetition, in the order of `rounds`."""
    samples: dict[Hashable, list[float]] = {name: [] for name in turns}
    reported = 0
    for repetition, name in rounds(list(turns), repetitions):
        if repetition > reported:
            report(f"repetition {repetition} of {repetitions}")
            reported = repetition
        samples[name] += turns[name]()
    return samples
