"""Turns: every case is timed once a repetition, so that a drifting machine favours none of them."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Report = Callable[[str], None]


def rounds(cases: Sequence[T], repetitions: int) -> Iterator[tuple[int, T]]:
    """Yields every case once a repetition, forwards and backwards by turns.

    So a machine that gets steadily slower, or faster, favours none of them: after an even number of repetitions, in
    the mean and in the median.
    """
    for repetition in range(1, repetitions + 1):
        for case in cases if repetition % 2 else reversed(cases):
            yield repetition, case


def interleaved(
    turns: Mapping[Any, Callable[[], Sequence[float]]], repetitions: int, report: Report
) -> dict[Hashable, list[float]]:
    """Returns the samples of each case, which is asked once a repetition, in the order of `rounds`."""
    samples: dict[Hashable, list[float]] = {name: [] for name in turns}
    told = 0
    for repetition, name in rounds(list(turns), repetitions):
        if repetition > told:
            report(f"repetition {repetition} of {repetitions}")
            told = repetition
        samples[name] += turns[name]()
    return samples
