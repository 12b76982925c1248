"""Work of many requests that is done together, in threads, so that the event loop never waits."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items while its threads are busy, and gives each free thread a group of them.

    An idle thread starts with what there is: under a low load nothing waits, under a high load groups grow by
    themselves. If `more_come` says that further items are on their way, it waits for them, for `wait` seconds at most.

    Args:
      work: from a group of items to their results, or to an exception in the place of one; called in a thread.
      threads: number of groups that are worked on at once.
      size: of a group, at most; a larger single item is a group by itself.
      weigh: size of an item.
      wait: seconds.
      more_come: returns whether waiting is of use.
      started: told the size of each group.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result | Exception]],
        *,
        threads: int,
        size: int,
        weigh: Callable[[Item], int] = lambda item: 1,
        wait: float = 0.0,
        more_come: Callable[[], bool] = lambda: False,
        started: Callable[[int], None] = lambda size: None,
    ):
        self._work, self._size, self._weigh = work, size, weigh
        self._wait, self._more_come, self._started = wait, more_come, started
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._weight = 0
        self._idle = self._threads = threads
        self._executor = ThreadPoolExecutor(threads)
        self._is_due = self._is_planned = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """True if an item waits or is worked on."""
        return bool(self._waiting) or self._idle < self._threads

    async def submit(self, item: Item) -> Result:
        """Returns the result of one item; raises the exception that stands in its place."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        self._weight += self._weigh(item)
        self._plan(loop)
        return await future

    def close(self) -> None:
        """Ends the threads after the group that they have; what waits is left."""
        self._executor.shutdown(cancel_futures=True)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_planned:  # later, so that all that come in the same turn of the loop are one group
            self._is_planned = True
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_planned = False
        while self._waiting and self._idle:
            if self._weight < self._size and self._wait and not self._is_due and self._more_come():
                if self._timer is None:
                    self._timer = loop.call_later(self._wait, self._due, loop)
                return
            self._is_due = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            group = self._take()
            self._idle -= 1
            self._executor.submit(self._run, loop, group)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._is_due = None, True
        self._start(loop)

    def _take(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        group, total = [], 0
        while self._waiting:
            weight = self._weigh(self._waiting[0][0])
            if group and total + weight > self._size:
                break
            group.append(self._waiting.popleft())
            total += weight
        self._weight -= total
        self._started(total)
        return group

    def _run(self, loop: asyncio.AbstractEventLoop, group: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        """Works on a group, in a thread."""
        results: Sequence[Result | Exception]
        try:
            results = self._work([item for item, _ in group])
        except Exception as error:  # whatever it is, those who wait are told
            results = [error] * len(group)
        loop.call_soon_threadsafe(self._finish, loop, [future for _, future in group], results)

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        futures: "list[asyncio.Future[Result]]",
        results: Sequence[Result | Exception],
    ) -> None:
        self._idle += 1
        for future, result in zip(futures, results, strict=True):
            if future.done():  # whoever waited is gone
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._plan(loop)
