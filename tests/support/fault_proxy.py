"""What can happen between a client and a service: a proxy that hands requests on, and lets a share of them go wrong.

It speaks HTTP/1.1, with a Content-Length on both sides, and has an event loop in a thread of its own. Its own address
stays the same while the service behind it is killed and started at another port.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

FAULTS = (
    "busy",  # 503, and the service never sees the request
    "limited",  # 429, likewise
    "lost",  # the connection breaks before the request is handed on
    "half",  # the service gets half of the request, then both connections break
    "reset",  # the service answers, and the connection breaks before the answer
    "cut",  # the connection breaks in the middle of the answer
    "short",  # a whole answer by its length, whose JSON ends in the middle
    "gateway",  # the service answers, and the proxy says 502
    "late",  # the answer waits for a while
    "overtaken",  # the answer waits until others, asked for later, have passed
    "twice",  # the service gets the request twice at the same time
    "again",  # the service gets the request once more, after it was answered
)
ENDS = (ConnectionError, asyncio.IncompleteReadError, OSError)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class FaultProxy:
    """A proxy on this machine.

    Attributes:
        target: port of the service; another once it was started again.
        share: share of the POST requests that go wrong, drawn from ``kinds``.
        faults: how often each kind of fault was made; ``down``: the service was not there.
        answered: number of whole answers that were handed back.
        url: its address.
    """

    def __init__(self, target: int, share: float, kinds: Sequence[str] = FAULTS, seed: int = 0) -> None:
        """Begin to listen at a free port."""
        self.target, self.share, self.kinds = target, share, kinds
        self.faults: Counter[str] = Counter()
        self.answered = 0
        self._random = random.Random(seed)
        self._passed = asyncio.Condition()
        self._echoes: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def wait_for(self, answers: int, alive: Callable[[], bool], seconds: float = 600) -> bool:
        """Wait until so many answers were handed back; False if ``alive`` became false first."""
        until = time.monotonic() + seconds
        while self.answered < answers:
            assert time.monotonic() < until, f"{self.answered} answers after {seconds} s, faults: {self.faults}"
            if not alive():
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """End it; connections break off."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _end(self) -> None:
        self._server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _do(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what comes over one connection of the client."""
        try:
            while True:
                answer = await self._exchange(await _read_message(reader))
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if len(answer) < _measure(answer):  # it was cut
                    break
        except ENDS:
            pass
        finally:
            with suppress(Exception):
                writer.transport.abort()

    async def _exchange(self, request: bytes) -> bytes | None:
        """The bytes that the client gets; None: the connection breaks."""
        fault = ""
        if request.startswith(b"POST") and self._random.random() < self.share:
            fault = self._random.choice(self.kinds)
            self.faults[fault] += 1
        try:
            answer = await getattr(self, f"_be_{fault}", self._be_well)(request)
        except ENDS:
            self.faults["down"] += 1
            return None
        if answer is not None and len(answer) == _measure(answer) and answer.startswith(b"HTTP/1.1 200"):
            self.answered += 1
            async with self._passed:
                self._passed.notify_all()
        return answer

    async def _ask(self, request: bytes) -> bytes:
        """The service's answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target, limit=2**24)
        try:
            writer.write(request)
            return await _read_message(reader)
        finally:
            writer.transport.abort()

    async def _be_well(self, request: bytes) -> bytes | None:
        return await self._ask(request)

    async def _be_busy(self, request: bytes) -> bytes | None:
        return _spell(503, "busy", "Retry-After: 0.05\r\n")

    async def _be_limited(self, request: bytes) -> bytes | None:
        return _spell(429, "slower", "Retry-After: 0.05\r\n")

    async def _be_lost(self, request: bytes) -> bytes | None:
        return None

    async def _be_half(self, request: bytes) -> bytes | None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(request[: -len(request) // 4])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()
        return None

    async def _be_reset(self, request: bytes) -> bytes | None:
        await self._ask(request)
        return None

    async def _be_cut(self, request: bytes) -> bytes | None:
        answer = await self._ask(request)
        return answer[: self._random.randrange(1, len(answer))]

    async def _be_short(self, request: bytes) -> bytes | None:
        _, _, body = (await self._ask(request)).partition(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body) // 2}\r\n\r\n"
        self.answered -= 1
        return head.encode() + body[: len(body) // 2]

    async def _be_gateway(self, request: bytes) -> bytes | None:
        await self._ask(request)
        return _spell(502, "bad gateway")

    async def _be_late(self, request: bytes) -> bytes | None:
        answer = await self._ask(request)
        await asyncio.sleep(self._random.random() / 2)
        return answer

    async def _be_overtaken(self, request: bytes) -> bytes | None:
        answer = await self._ask(request)
        due = self.answered + self._random.randrange(1, 4)
        with suppress(TimeoutError):
            async with asyncio.timeout(1), self._passed:
                await self._passed.wait_for(lambda: self.answered >= due)
        return answer

    async def _be_twice(self, request: bytes) -> bytes | None:
        answers = await asyncio.gather(self._ask(request), self._ask(request))
        return self._random.choice(answers)

    async def _be_again(self, request: bytes) -> bytes | None:
        async def echo() -> None:
            await asyncio.sleep(self._random.random())
            with suppress(*ENDS):
                await self._ask(request)

        task = asyncio.create_task(echo())
        self._echoes.add(task)
        task.add_done_callback(self._echoes.discard)
        return await self._ask(request)


@contextmanager
def between(target: int, share: float, kinds: Sequence[str] = FAULTS, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy for the length of a block."""
    proxy = FaultProxy(target, share, kinds, seed)
    try:
        yield proxy
    finally:
        proxy.close()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """One request or answer, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_find_length(head))


def _measure(message: bytes) -> int:
    """The bytes that a message should have, by its head; more than it has if the head itself is cut."""
    head, end, _ = message.partition(b"\r\n\r\n")
    return len(head) + 4 + _find_length(head) if end else len(message) + 1


def _find_length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


def _spell(status: int, said: str, headers: str = "") -> bytes:
    body = json.dumps({"error": {"code": said, "message": said, "retry_after": None}})
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return f"{head}{body}".encode()
