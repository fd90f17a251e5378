"""How often a call is made again, and after which waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from fmsteal.victims.failure import Failure

if TYPE_CHECKING:
    from tenacity import RetryCallState

FIRST_TRIES = 3  # calls of a service that was never reached: a wrong address is said soon
FIRST_WAIT = 0.25  # seconds before a call is made again, doubled each time up to half a minute
T = TypeVar("T")


class Patience:
    """Makes calls of one service again, while that costs nothing and helps.

    Attributes:
        retries: how often a call is made again.
        longest: the longest wait, in seconds, that the service may ask for.
        reached: whether the service was ever reached; set by whoever makes the calls.
    """

    def __init__(self, retries: int, longest: float) -> None:
        self.retries, self.longest, self.reached = retries, longest, False
        self._not_before = 0.0  # the service asked all calls to wait until then, on the monotonic clock

    async def wait_turn(self) -> None:
        """Wait until the service takes calls again."""
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def keep_trying(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and again after each `Failure` that says so, with growing waits, and as the service asks.

        Raises:
            Failure: the last one; ``unpaid`` only if all of them were.
        """
        from tenacity import AsyncRetrying, retry_if_exception

        unsure = list[bool]()

        def may(error: BaseException) -> bool:
            unsure.append(isinstance(error, Failure) and not error.unpaid)
            return isinstance(error, Failure) and error.again and (error.wait or 0.0) <= self.longest

        trying = AsyncRetrying(retry=retry_if_exception(may), stop=self._is_enough, wait=self._find_wait, reraise=True)
        try:
            async for attempt in trying:
                with attempt:
                    return await call()
        except Failure as failure:
            failure.unpaid = not any(unsure)
            if failure.wait is not None and failure.wait > self.longest:
                raise Failure(
                    f"{failure} It asks to wait {failure.wait:.0f} s, more than "
                    f"victim.patience={self.longest:g}.",
                    unpaid=failure.unpaid, again=False,
                ) from None  # fmt: skip
            raise
        raise AssertionError  # the last failure is raised again

    def _is_enough(self, state: RetryCallState) -> bool:
        failure = state.outcome.exception() if state.outcome else None
        unseen = isinstance(failure, Failure) and not failure.reached and not self.reached
        return state.attempt_number > min(self.retries, FIRST_TRIES - 1 if unseen else self.retries)

    def _find_wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt: what the service asks of all calls, else one that doubles each time."""
        from tenacity import wait_exponential_jitter

        failure = state.outcome.exception() if state.outcome else None
        asked = failure.wait if isinstance(failure, Failure) else None
        if asked is not None:
            self._not_before = max(self._not_before, time.monotonic() + asked)
            return asked
        return wait_exponential_jitter(initial=FIRST_WAIT, max=120 * FIRST_WAIT, jitter=FIRST_WAIT)(state)
