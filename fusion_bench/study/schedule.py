"""The order in which workers take the trainings of a study. Pure: nothing is run, and the clock is the caller's."""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The expected duration of a training.

    Attributes:
      program: trainings with the same one need one compilation between them.
      seconds: of the training itself.
      compile_seconds: of its program, in a process that has not compiled it yet.
    """

    program: Hashable
    seconds: float
    compile_seconds: float


@dataclasses.dataclass
class _Group(Generic[T]):
    """The trainings of one program, and the expected end of the present or last training of each of its workers."""

    estimate: Estimate
    waiting: deque[T]
    seconds: float
    ends: dict[int, float] = dataclasses.field(default_factory=dict)

    @property
    def work(self) -> float:
        return self.seconds * len(self.waiting)

    def end(self, now: float) -> float:
        """Returns when its workers will have done all of it, if no other one helps."""
        rounds = -(-len(self.waiting) // len(self.ends))
        return max(now, min(self.ends.values())) + rounds * self.seconds


class Schedule(Generic[T]):
    """Hands out trainings one by one.

    A worker keeps to the program that it has compiled. After that it takes the longest work that nobody has begun
    (the longest-processing-time rule: Graham, "Bounds on multiprocessing timing anomalies", 1969), and at the end it
    helps others, at the price of a second compilation, where that ends earlier.

    Args:
      jobs: the trainings.
      estimate: the expected duration of one.
    """

    def __init__(self, jobs: Iterable[T], estimate: Callable[[T], Estimate]):
        self._groups: dict[Hashable, _Group[T]] = {}
        self._of: dict[T, _Group[T]] = {}
        self._present: dict[int, tuple[T, float]] = {}
        self._compiled: defaultdict[int, set[Hashable]] = defaultdict(set)
        for job in jobs:
            expected = estimate(job)
            group = self._groups.setdefault(expected.program, _Group(expected, deque(), expected.seconds))
            group.waiting.append(job)
            self._of[job] = group

    def take(self, worker: int, now: float) -> T | None:
        """Returns the next training of a worker; None if its help would make nothing end earlier.

        Args:
          worker: any number that stands for it.
          now: the time, in seconds.
        """
        group = self._choose(worker, now)
        if group is None:
            return None
        job = group.waiting.popleft()
        for other in self._groups.values():
            other.ends.pop(worker, None)
        is_new = group.estimate.program not in self._compiled[worker]
        begins = now + is_new * group.estimate.compile_seconds
        group.ends[worker] = begins + group.seconds
        self._compiled[worker] = {group.estimate.program}
        self._present[worker] = (job, begins)
        return job

    def done(self, worker: int, now: float, *, trained: bool = True) -> None:
        """Notes that a worker has ended its training; its real duration is expected of the next ones.

        Args:
          worker: the number that stands for it.
          now: the time, in seconds.
          trained: whether it has trained to the end; another duration says nothing of the next ones.
        """
        job, begun = self._present.pop(worker)
        group = self._of[job]
        if trained:
            group.seconds = max(now - begun, 0.0)
        group.ends[worker] = now

    def lost(self, worker: int) -> None:
        """Notes that a worker has died, or does something else."""
        self._compiled.pop(worker, None)
        self._present.pop(worker, None)
        for group in self._groups.values():
            group.ends.pop(worker, None)

    def again(self, job: T) -> None:
        """Hands out a training once more."""
        self._of[job].waiting.appendleft(job)

    @property
    def waiting(self) -> int:
        """The number of trainings that nobody has begun."""
        return sum(len(group.waiting) for group in self._groups.values())

    def _choose(self, worker: int, now: float) -> _Group[T] | None:
        open_groups = [group for group in self._groups.values() if group.waiting]
        own = [group for group in open_groups if group.estimate.program in self._compiled[worker]]
        untouched = [group for group in open_groups if not group.ends]
        if own or untouched:
            return max(own or untouched, key=lambda group: group.work)
        helped = [g for g in open_groups if now + g.estimate.compile_seconds + g.seconds < g.end(now)]
        return max(helped, key=lambda group: group.end(now), default=None)
