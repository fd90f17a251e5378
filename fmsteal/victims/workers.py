"""Several calls of a service at once, until all are made or one has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from fmsteal.base.errors import FmstealError
from fmsteal.victims.failure import Failure

GRACE = 1.0  # seconds that calls under way get to end once this process is told to
T = TypeVar("T")


async def make_all(
    askings: Sequence[T], settle: Callable[[T], Awaitable[None]], concurrency: int, first_alone: bool = False
) -> None:
    """Settle each asking, ``concurrency`` of them at once. After a failure no further one is begun.

    With ``first_alone`` the first is settled before any other is begun.

    Raises:
        Failure, FmstealError: the first that happened; what was under way was ended first.
    """
    alone = 1 if first_alone else 0
    for some in (askings[:alone], askings[alone:]):
        if some:
            await _make_together(some, settle, concurrency)


async def _make_together(askings: Sequence[T], settle: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    queue, failed = iter(askings), list[BaseException]()
    count = min(concurrency, len(askings))
    workers = [asyncio.create_task(_work(queue, settle, failed)) for _ in range(count)]
    try:
        await asyncio.wait(workers)
    except asyncio.CancelledError as told:  # what is under way may be paid for already
        failed.append(told)
        _, late = await asyncio.wait(workers, timeout=GRACE)
        for worker in late:
            worker.cancel()
        raise
    failed += [error for worker in workers if (error := worker.exception()) is not None]
    if failed:
        raise failed[0]


async def _work(queue: Iterator[T], settle: Callable[[T], Awaitable[None]], failed: list[BaseException]) -> None:
    """Settle one asking after the other."""
    while not failed and (asking := next(queue, None)) is not None:
        try:
            await settle(asking)
        except (Failure, FmstealError) as error:
            failed.append(error)
