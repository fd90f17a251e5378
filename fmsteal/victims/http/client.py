"""Asks a service: several calls at once, each noted before it is made, and made again only where that costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fmsteal.base.errors import ConfigError, VictimError
from fmsteal.victims.answer_log import AnswerLog, Call
from fmsteal.victims.failure import GOES_ON, Failure
from fmsteal.victims.http.failures import explain_network, explain_status
from fmsteal.victims.http.reading import Reader, Unreadable
from fmsteal.victims.loop_thread import LoopThread
from fmsteal.victims.patience import Patience
from fmsteal.victims.secrets import Headers
from fmsteal.victims.workers import make_all

if TYPE_CHECKING:
    import aiohttp

RENEWAL = 60.0  # seconds in which a refused token is fetched again once
T = TypeVar("T")


@dataclass(frozen=True)
class Manners:
    """How a service is treated.

    Attributes:
        concurrency: calls under way at once.
        timeout: seconds for a call.
        retries: how often a call is made again.
        patience: the longest wait, in seconds, that the service may ask for.
        retry_statuses: HTTP statuses that cost nothing and go away.
        idempotency: whether the service charges calls with the same ``Idempotency-Key`` once.
    """

    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 8
    patience: float = 300.0
    retry_statuses: tuple[int, ...] = (408, 425, 429, 500, 502, 503, 504)
    idempotency: bool = True

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0 or self.patience < 0:
            raise ConfigError(
                "victim.concurrency must be at least 1, victim.timeout above 0, victim.retries and victim.patience not "
                f"negative: {self.concurrency}, {self.timeout}, {self.retries}, {self.patience}."
            )


@dataclass(frozen=True)
class Asking:
    """A call with the means to make its request.

    Attributes:
        call: what is asked.
        body: makes the body and its content type.
    """

    call: Call
    body: Callable[[], tuple[bytes, str]]


class HttpClient:
    """A client of one service. Its event loop runs in a thread of its own, so that it also works in a notebook."""

    def __init__(self, url: str, headers: Headers, manners: Manners, reader: Reader) -> None:
        """Prepare; nothing is sent.

        Raises:
            ConfigError: a package that it needs is not installed.
        """
        try:
            import aiohttp  # noqa: F401
            import tenacity  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"A victim behind HTTP needs {error.name}: pip install 'fmsteal[http]'.") from None
        self.url, self._headers, self._manners, self._reader = url, headers, manners, reader
        self._thread: LoopThread | None = None
        self._session: aiohttp.ClientSession | None = None
        self._patience = Patience(manners.retries, manners.patience)
        self._renewed = -RENEWAL

    @property
    def charged_once(self) -> bool:
        """Whether the service charges calls with the same key once."""
        return self._manners.idempotency

    def ask(self, askings: Sequence[Asking], log: AnswerLog, width: int | None) -> None:
        """Make the calls; every answer is in the log when this returns. Without a ``width`` the first goes alone.

        Raises:
            VictimError: the service refuses, cannot be reached, or answers what cannot be understood. Calls that were
                under way are finished, and their answers kept.
        """

        async def settle(asking: Asking) -> None:
            await self._settle(asking, log, width)

        unknown = width is None and log.width is None
        self._run(make_all(askings, settle, self._manners.concurrency, first_alone=unknown))

    def get(self, url: str) -> bytes:
        """What a GET of an address returns, with the same headers and the same patience.

        Raises:
            VictimError: it returns nothing.
        """
        return self._run(self._patience.keep_trying(lambda: self._send("GET", url, b"", {})))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        self._thread = self._thread or LoopThread()
        try:
            return self._thread.run(work)
        except Failure as failure:
            raise VictimError(self._headers.hide(f"{failure} {GOES_ON}")) from None

    async def _settle(self, asking: Asking, log: AnswerLog, width: int | None) -> None:
        """Make a call until its answer is in the log, or it is known to cost nothing, or nothing can be known."""
        body, mime = asking.body()
        headers = {"Content-Type": mime}
        if self._manners.idempotency:
            headers["Idempotency-Key"] = asking.call.key
        number, images = log.note(asking.call), len(asking.call.questions)
        last = b""

        async def once() -> Any:
            nonlocal last
            last = await self._send("POST", self.url, body, headers)
            try:
                return self._reader.read(last, images, width or log.width)
            except Unreadable as error:
                again = error.cut and self._manners.idempotency
                raise Failure(str(error), unpaid=False, again=again) from None

        try:
            rows = await self._patience.keep_trying(once)
        except Failure as failure:
            if failure.unpaid:
                log.void(number)
            elif last:
                log.keep(number, self._headers.hide(last.decode("latin-1")).encode("latin-1"))
            raise
        log.answer(number, rows)

    async def _send(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> bytes:
        """Send one request; the body of its reply.

        Raises:
            Failure: there is none.
        """
        import aiohttp

        await self._patience.wait_turn()
        edition = self._headers.edition
        secret = await asyncio.to_thread(self._headers.spell_out) if self._headers.renews else self._headers.spell_out()
        try:
            async with self._open().request(
                method, url, data=body or None, headers={**secret, **headers}, allow_redirects=False
            ) as reply:
                said = await reply.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise explain_network(error, url, self._manners.idempotency or method == "GET") from None
        except ValueError:  # a header that HTTP does not allow; its message may hold the value
            raise Failure("victim.headers has a value that HTTP does not allow.", unpaid=True, again=False) from None
        self._patience.reached = True
        if 200 <= reply.status < 300:
            return said
        again = reply.status in self._manners.retry_statuses
        if reply.status == 401 and self._headers.renews:
            again = edition != self._headers.edition or self._renew()
        sure = again and not self._manners.idempotency
        raise explain_status(reply.status, self._reader.read_error(said), reply.headers, url, again, sure)

    def _renew(self) -> bool:
        """Let the token be fetched again, unless it is quite new."""
        if time.monotonic() - self._renewed < RENEWAL:
            return False
        self._renewed = time.monotonic()
        self._headers.forget_token()
        return True

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            idle = (
                15.0 if self._manners.idempotency else 2.0
            )  # a connection that the service has closed costs an answer
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._manners.concurrency, keepalive_timeout=idle),
                timeout=aiohttp.ClientTimeout(total=self._manners.timeout),
            )
            assert self._thread is not None
            self._thread.close_with(self, self._session.close)
        return self._session
