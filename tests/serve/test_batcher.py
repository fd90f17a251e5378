"""What waits while the thread is busy is worked on together, in order, and in no more than the queue's room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from fmsteal.serve.batcher import Batcher
from fmsteal.serve.faults import Fault


@dataclass(frozen=True)
class Task:
    name: int
    kind: str = "a"
    weight: int = 1


class Bench:
    """A batcher whose work waits until it is let go."""

    def __init__(self, most: int = 4, waiting: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.go, self.begun = threading.Event(), threading.Event()
        self.thread = ThreadPoolExecutor(1)
        self.batcher: Batcher[Task, int] = Batcher(self.work, self.thread, most, waiting)

    def work(self, tasks: Sequence[Task]) -> list[int]:
        self.begun.set()
        assert self.go.wait(10)
        self.batches.append([task.name for task in tasks])
        if any(task.name == 13 for task in tasks):
            raise ValueError("13")
        return [10 * task.name for task in tasks]

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            running = asyncio.create_task(self.batcher.run())
            try:
                await test
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

        asyncio.run(whole())
        self.thread.shutdown()

    async def submit_behind_a_first(self, *tasks: Task) -> list[int]:
        """Submit tasks while the thread works on task 0."""
        first = asyncio.create_task(self.batcher.submit(Task(0)))
        await asyncio.to_thread(self.begun.wait)
        others = [asyncio.create_task(self.batcher.submit(task)) for task in tasks]
        await asyncio.sleep(0)
        self.go.set()
        assert await first == 0
        return await asyncio.gather(*others)


def test_what_waits_is_worked_on_together_in_order() -> None:
    bench = Bench()

    async def test() -> None:
        assert await bench.submit_behind_a_first(*(Task(n) for n in range(1, 8))) == [10 * n for n in range(1, 8)]

    bench.run(test())
    assert bench.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_a_batch_is_of_one_kind_and_a_heavy_task_is_one_of_its_own() -> None:
    bench = Bench()

    async def test() -> None:
        await bench.submit_behind_a_first(Task(1), Task(2, "b"), Task(3, weight=9), Task(4), Task(5, "b"))

    bench.run(test())
    assert bench.batches == [[0], [1, 4], [2, 5], [3]]


def test_more_than_the_room_is_refused_and_the_room_is_free_again() -> None:
    bench = Bench(waiting=2)

    async def test() -> None:
        first = asyncio.create_task(bench.batcher.submit(Task(0)))
        await asyncio.to_thread(bench.begun.wait)
        others = [asyncio.create_task(bench.batcher.submit(Task(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Fault) as fault:
            await bench.batcher.submit(Task(3))
        assert fault.value.code == "overloaded" and fault.value.retry_after == 1
        bench.go.set()
        assert await asyncio.gather(first, *others) == [0, 10, 20]
        assert await bench.batcher.submit(Task(4)) == 40

    bench.run(test())


def test_an_error_ends_its_own_batch_alone() -> None:
    bench = Bench()

    async def test() -> None:
        bench.go.set()
        with pytest.raises(ValueError, match="13"):
            await bench.batcher.submit(Task(13))
        assert await bench.batcher.submit(Task(1)) == 10

    bench.run(test())


def test_a_request_that_was_given_up_harms_no_other() -> None:
    bench = Bench()

    async def test() -> None:
        lost = asyncio.create_task(bench.batcher.submit(Task(0)))
        await asyncio.to_thread(bench.begun.wait)
        other = asyncio.create_task(bench.batcher.submit(Task(1)))
        await asyncio.sleep(0)
        lost.cancel()
        bench.go.set()
        assert await other == 10

    bench.run(test())
