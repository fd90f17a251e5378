"""Collects what waits, from all clients, and lets one thread work on it; requests queue while the thread is busy."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from fmsteal.serve.faults import Fault


class Stackable(Protocol):
    """What can wait: things of one ``kind`` may be worked on together; ``weight`` is the number of images."""

    @property
    def kind(self) -> Hashable:
        """Things of another kind go into another batch."""
        ...

    @property
    def weight(self) -> int:
        """How many images it is."""
        ...


Thing = TypeVar("Thing", bound=Stackable)
Result = TypeVar("Result")


class Batcher(Generic[Thing, Result]):
    """A queue in front of a function of many things. There is no fixed delay: a lone request is worked on at once."""

    def __init__(
        self, work: Callable[[Sequence[Thing]], Sequence[Result]], thread: ThreadPoolExecutor, most: int, waiting: int
    ) -> None:
        """``work`` gets at most ``most`` images, unless a single thing has more; ``waiting`` is the queue's length."""
        self._work, self._thread, self._most, self._room = work, thread, most, waiting
        self._queue: deque[tuple[Thing, asyncio.Future[Result]]] = deque()
        self._wake = asyncio.Event()
        self._waiting = 0

    async def submit(self, thing: Thing) -> Result:
        """What `work` returns for this thing.

        Raises:
            Fault: too many images are waiting.
        """
        if self._waiting and self._waiting + thing.weight > self._room:
            raise Fault("overloaded", f"{self._waiting} images are waiting. Try again in a second.", 1.0)
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((thing, done))
        self._waiting += thing.weight
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Work on what waits, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            batch = self._take()
            try:
                results = await loop.run_in_executor(self._thread, self._work, [thing for thing, _ in batch])
            except Exception as error:  # none of ours: `work` returns faults
                results = [error] * len(batch)  # type: ignore[list-item]
            for (_, done), result in zip(batch, results, strict=True):
                if done.done():  # its request was cancelled
                    continue
                if isinstance(result, Exception) and not isinstance(result, Fault):
                    done.set_exception(result)
                else:
                    done.set_result(result)

    def _take(self) -> list[tuple[Thing, asyncio.Future[Result]]]:
        """The first thing that waits, and all others of its kind that fit beside it."""
        kind, weight = self._queue[0][0].kind, 0
        batch, rest = list[tuple[Thing, asyncio.Future[Result]]](), deque[tuple[Thing, asyncio.Future[Result]]]()
        for each in self._queue:
            if each[0].kind == kind and (not batch or weight + each[0].weight <= self._most):
                batch.append(each)
                weight += each[0].weight
            else:
                rest.append(each)
        self._queue = rest
        self._waiting -= weight
        if not rest:
            self._wake.clear()
        return batch
