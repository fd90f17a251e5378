"""A real service over HTTP in a thread: it answers with a real small model, keeps accounts, and can be made to fail.

It speaks as ``fmsteal serve`` does, or in the shape of another service (`tests.support.dialects`). What it has answered
under an idempotency key it answers again without charge, also after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image

from tests.support.dialects import DIALECTS, Dialect

Model = Callable[[np.ndarray], np.ndarray]
FAULTS = ("busy", "limited", "reset", "cut", "late", "twice", "lost")


def digest(image: np.ndarray) -> str:
    """What the service knows an image by."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def open_image(data: bytes) -> np.ndarray:
    """An encoded image as uint8 ``(3, h, w)``."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


@dataclass
class Api:
    """The service and its books.

    Attributes:
        model: uint8 images ``(n, 3, h, w)`` to vectors ``(n, width)``.
        dialect: how it speaks.
        width: of a vector.
        task: what it says it is.
        key: what it wants as ``Authorization``; None for anybody.
        budget: images that it answers, then 402.
        most: images in a request, then 413.
        remembers: whether it charges an idempotency key once.
        faults: share of requests that go wrong, drawn from ``kinds``.
        paid: how often each image was charged.
        requests: the bodies and headers of all requests, as they came.
        events: called with each request before it is answered.
    """

    model: Model
    dialect: Dialect = field(default_factory=lambda: DIALECTS["fmsteal"])
    width: int = 4
    task: str = "classify"
    key: str | None = None
    budget: int = 10**9
    most: int = 10**9
    remembers: bool = True
    faults: float = 0.0
    kinds: Sequence[str] = FAULTS
    seed: int = 0
    retry_after: str = "0.01"
    paid: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)
    before: Callable[[int], Any] = lambda number: None
    busiest: int = 0
    _now: int = 0
    _answered: dict[str, tuple[str, list[list[float]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or fail at it."""
        body = await request.read()
        self.requests.append((body, dict(request.headers)))
        self._now += 1
        self.busiest = max(self.busiest, self._now)
        try:
            return await self._handle(request, body)
        finally:
            self._now -= 1

    async def _handle(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if (reply := self.before(len(self.requests))) is not None:
            return await reply(request) if asyncio.iscoroutinefunction(reply) else reply
        if self.key is not None and self.key not in request.headers.values():
            return self._refuse(401, f"the key {request.headers.get('Authorization')} is unknown")
        fault = self.random.choice(self.kinds) if self.random.random() < self.faults else ""
        if fault == "busy":
            return self._refuse(503, "busy")
        if fault == "limited":
            return self._refuse(429, "slower", {"Retry-After": self.retry_after})
        if fault == "lost":  # before anything was done
            return await self._hang_up(request)
        answer = self._answer(request, body)
        if fault == "twice":  # as if the network had delivered it twice
            answer = self._answer(request, body)
        if isinstance(answer, web.Response):
            return answer
        if fault == "reset":  # the answer was made, and never arrives
            return await self._hang_up(request)
        if fault == "cut":
            return await self._cut_off(request, self.dialect.write(answer, self.random))
        if fault == "late":
            await asyncio.sleep(self.random.random() / 20)
        return web.Response(body=self.dialect.write(answer, self.random), content_type="application/json")

    def _answer(self, request: web.Request, body: bytes) -> list[list[float]] | web.Response:
        key, content = request.headers.get("Idempotency-Key"), hashlib.sha256(body).hexdigest()
        if self.remembers and key in self._answered:
            known, answer = self._answered[key]
            return answer if known == content else self._refuse(422, "the same key with another body")
        try:
            images = self.dialect.read(body, request.headers.get("Content-Type", ""), open_image)
        except Exception as error:
            return self._refuse(400, f"{type(error).__name__}: {error}")
        if len(images) > self.most:
            return self._refuse(413, f"at most {self.most} images")
        if self.paid.total() + len(images) > self.budget:
            return self._refuse(402, "the budget is spent")
        self.paid.update(digest(image) for image in images)
        answer = [row.tolist() for row in self.model(np.stack(images))]
        if key is not None:
            self._answered[key] = content, answer
        return answer

    def _refuse(self, status: int, said: str, headers: dict[str, str] | None = None) -> web.Response:
        return web.json_response(self.dialect.refuse(status, said), status=status, headers=headers)

    async def _hang_up(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _cut_off(self, request: web.Request, body: bytes) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
        with suppress(ConnectionError):
            await reply.prepare(request)
            await reply.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.abort()
        return reply

    async def about(self, request: web.Request) -> web.Response:
        """What it is."""
        return web.json_response({"task": self.task, "width": self.width, "price_per_1000": 2.0})


class Running:
    """A service that is up; it can be taken down and up again at the same address."""

    def __init__(self, api: Api) -> None:
        self.api, self._loop = api, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Start it."""
        self._do(self._up())

    def down(self) -> None:
        """Stop it at once; connections break off."""
        self._do(self._runner.cleanup())

    def close(self) -> None:
        """Stop it for good."""
        self.down()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def restart_from_within(self, pause: float) -> None:
        """Go down, and up again after a pause; called in the service's own thread."""

        async def again() -> None:
            assert self._runner.server is not None
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            await asyncio.sleep(pause)
            await self._up()

        self._restarting = self._loop.create_task(again())

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _up(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/model", self.api.about)
        app.router.add_route("POST", "/{anything:.*}", self.api.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@contextmanager
def run(api: Api) -> Iterator[Running]:
    """The service, for the length of a block."""
    running = Running(api)
    try:
        yield running
    finally:
        running.close()
