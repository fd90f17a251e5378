"""An event loop in a thread of its own: waiting for the network works in a notebook too, and can be stopped."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 2.0  # seconds that stopped work gets to end


class LoopThread:
    """Runs coroutines for another thread, which waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="fmsteal-asks", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the work to its end; what interrupts this thread also stops the work, which may tidy up first."""
        over = threading.Event()

        async def whole() -> T:
            try:
                return await work
            finally:
                over.set()

        task = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            return task.result()
        except BaseException:
            if not over.is_set():
                task.cancel()
                over.wait(PATIENCE)
            raise

    def close_with(self, owner: object, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call ``close`` in the loop and end it once the owner is no longer used, or the process ends."""
        weakref.finalize(owner, _close, self._loop, close)


def _close(loop: asyncio.AbstractEventLoop, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(Exception):  # the process may be ending
        asyncio.run_coroutine_threadsafe(close(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
