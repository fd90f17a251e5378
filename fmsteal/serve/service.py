"""A service that is running: who may ask, what waits, what is being read, and the thread that answers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import torch

from fmsteal.records.folders import ServiceFolder
from fmsteal.serve.batcher import Batcher
from fmsteal.serve.books import Books, Usage, Wanted
from fmsteal.serve.clients import ServiceClient, digest_key
from fmsteal.serve.desk import Answered, Order, ServiceDesk
from fmsteal.serve.faults import Fault
from fmsteal.serve.gate import AccessLog, Receive
from fmsteal.serve.memory import Memory, Share
from fmsteal.serve.pictures import Limits, decode_pictures, open_pictures
from fmsteal.serve.served import ServedModel

log = logging.getLogger(__name__)

BATCH = 64  # images of several requests that are answered together
WAITING = 4096  # images that may wait
MEMORY = 512 * 2**20  # bytes of bodies and decoded images that may be held
BODY_SECONDS = 30.0  # for a body to arrive
HELD = 30.0  # the longest that an answer is held back for a defense, in seconds
_SMALL_BODY, _SMALL_IMAGE = 2**16, 2**17  # bytes, pixels: what is decoded at once, without another thread

Found = TypeVar("Found")


class RunningService:
    """One process's part of a service. `ask` is the whole way of a request, from its body to its answers."""

    def __init__(
        self, served: ServedModel, clients: Sequence[ServiceClient], folder: ServiceFolder, limits: Limits
    ) -> None:
        """Open the records, and bring the defense to the state that they say.

        Raises:
            StoreError: the records cannot be opened, or are another service's.
        """
        self.served, self.limits = served, limits
        self.access = AccessLog(folder.access)
        self._clients = {client.key_sha256: client for client in clients}
        self._books = [Books(folder.books, clients, served.identity) for _ in range(2)]  # the thread's, the loop's
        if released := self._books[0].release_dead():
            log.warning("%d requests were being answered when the service was killed. They are not charged.", released)
        self._desk = ServiceDesk(served.counsel, self._books[0])
        self._thread = ThreadPoolExecutor(1, "answers")
        self._decoders = ThreadPoolExecutor(2, "decodes")
        self._batcher: Batcher[Order, Answered | Fault] = Batcher(self._desk.answer, self._thread, BATCH, WAITING)
        self._pending: dict[tuple[str, str], tuple[bytes, asyncio.Future[Answered]]] = {}
        self.memory = Memory(MEMORY)
        self._bodies: set[asyncio.Timeout] = set()
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer what is asked in the block."""
        task = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            task.cancel()
            self._thread.shutdown()
            self._decoders.shutdown()
            for books in self._books:
                books.close()
            self.access.close()

    def stop(self) -> None:
        """Hold no answer back any more, and wait for no body."""
        self._stopping.set()
        for timeout in list(self._bodies):
            timeout.reschedule(asyncio.get_running_loop().time())

    def find_client(self, authorization: str | None) -> ServiceClient:
        """The client of an Authorization header.

        Raises:
            Fault: there is none, or its key is not known.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Fault("unauthorized", "No key was sent. Send the header Authorization: Bearer KEY.")
        client = self._clients.get(digest_key(key.strip()))
        if client is None:
            raise Fault("unauthorized", "The key is not known here. Ask whoever runs the service for one.")
        return client

    def usage(self, client: ServiceClient) -> Usage:
        """What a client has had."""
        return self._books[1].usage(client)

    async def read_body(self, receive: Receive, announced: str | None, share: Share) -> bytes:
        """The body of a request, within all limits.

        Args:
            receive: gives its parts.
            announced: the Content-Length, if there is one.
            share: the memory that the request holds.

        Raises:
            Fault: it is too large, or too slow, or too many are being read.
        """
        if announced is not None and announced.isdecimal() and int(announced) > self.limits.body:
            raise self._too_large()
        if self._stopping.is_set():
            raise Fault("stopping", "The service is stopping.", 1.0)
        try:
            async with asyncio.timeout(BODY_SECONDS) as timeout:
                self._bodies.add(timeout)
                try:
                    return await self._receive(receive, share)
                finally:
                    self._bodies.discard(timeout)
        except TimeoutError:
            if self._stopping.is_set():
                raise Fault("stopping", "The service is stopping.", 1.0) from None
            raise Fault("slow_body", f"The body did not arrive within {BODY_SECONDS:g} seconds.") from None

    async def _receive(self, receive: Receive, share: Share) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Fault("bad_request", "The connection was closed before the body was complete.")
            part = message.get("body", b"")
            if (size := size + len(part)) > self.limits.body:
                raise self._too_large()
            share.take(len(part))
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> Fault:
        return Fault("body_too_large", f"A body may have {self.limits.body:,} bytes. Send fewer images at once.")

    async def ask(
        self, client: ServiceClient, key: str | None, path: str, kind: str, body: bytes, share: Share
    ) -> Answered:
        """The answers to a request.

        Raises:
            Fault: it is refused, or fails.
        """
        content = hashlib.blake2b(b"\0".join((path.encode(), kind.encode(), body)), digest_size=16).digest()
        if key is None:
            return await self._ask(client, None, content, kind, body, share)
        place = (client.name, key)
        if (known := self._pending.get(place)) is not None:  # the same request again, while it is being answered
            if known[0] != content:
                raise Fault("key_reused", f"Idempotency-Key {key} belongs to another request, which is being answered.")
            return await asyncio.shield(known[1])
        task = asyncio.ensure_future(self._ask(client, key, content, kind, body, share))
        self._pending[place] = content, task
        task.add_done_callback(lambda _: self._pending.pop(place, None))
        return await asyncio.shield(task)

    async def _ask(
        self, client: ServiceClient, key: str | None, content: bytes, kind: str, body: bytes, share: Share
    ) -> Answered:
        pictures = await self._decode(lambda: open_pictures(kind, body, self.limits), large=len(body) > _SMALL_BODY)
        pixels = await self._decode(
            lambda: decode_pictures(pictures, self.served.input_size),
            large=len(body) > _SMALL_BODY or sum(p.width * p.height for p in pictures) > _SMALL_IMAGE,
        )
        share.take(pixels.nbytes)
        images = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]
        order = Order(Wanted(client, key, content, images), torch.from_numpy(pixels))
        answered = await self._batcher.submit(order)
        if isinstance(answered, Fault):
            raise answered
        await self._hold(0.0 if answered.replayed else sum(entry.seconds for entry in answered.entries))
        return answered

    async def _decode(self, work: Callable[[], Found], *, large: bool) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work) if large else work()

    async def _hold(self, seconds: float) -> None:
        """Hold an answer back, for a defense that delays; not while the service stops."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(min(seconds, HELD)):
                await self._stopping.wait()
        except TimeoutError:
            pass
