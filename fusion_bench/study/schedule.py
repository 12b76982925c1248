"""The order in which workers take the trainings of a study. Nothing is run here, and the caller passes the time."""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The expected duration of a training.

    Attributes:
      program: trainings with the same program share one compilation.
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
        """Returns when its workers will have completed it, if no other worker helps."""
        rounds = -(-len(self.waiting) // len(self.ends))
        return max(now, min(self.ends.values())) + rounds * self.seconds


class Schedule(Generic[T]):
    """Hands out trainings one by one.

    A worker first takes trainings of the program that it has compiled, then those of the longest group that no worker
    has begun (the longest-processing-time rule: Graham, "Bounds on multiprocessing timing anomalies", 1969). At the end
    it compiles another worker's program and helps, if the group then ends earlier.

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
        """Returns the next training of a worker; None if its help would end nothing earlier.

        Args:
          worker: a number that identifies it.
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
        """Notes that a worker has ended its training, whose duration is then expected of the next ones.

        Args:
          worker: the number that identifies it.
          now: the time, in seconds.
          trained: whether the training was completed; else its duration is not used.
        """
        job, begun = self._present.pop(worker)
        group = self._of[job]
        if trained:
            group.seconds = max(now - begun, 0.0)
        group.ends[worker] = now

    def lost(self, worker: int) -> None:
        """Notes that a worker has died, or is used otherwise."""
        self._compiled.pop(worker, None)
        self._present.pop(worker, None)
        for group in self._groups.values():
            group.ends.pop(worker, None)

    def again(self, job: T) -> None:
        """Hands out a training once more."""
        self._of[job].waiting.appendleft(job)

    @property
    def waiting(self) -> int:
        """The number of trainings that no worker has begun."""
        return sum(len(group.waiting) for group in self._groups.values())

    def _choose(self, worker: int, now: float) -> _Group[T] | None:
        open_groups = [group for group in self._groups.values() if group.waiting]
        own = [group for group in open_groups if group.estimate.program in self._compiled[worker]]
        untouched = [group for group in open_groups if not group.ends]
        if own or untouched:
            return max(own or untouched, key=lambda group: group.work)
        helped = [g for g in open_groups if now + g.estimate.compile_seconds + g.seconds < g.end(now)]
        return max(helped, key=lambda group: group.end(now), default=None)
