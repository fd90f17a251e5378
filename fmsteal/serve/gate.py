"""What every request passes first: the access log, and the last net for errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import orjson

from fmsteal.serve.faults import Fault

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
NOTE = "fmsteal.note"  # of the scope: what handlers add to the access log's line
LONGEST = 200  # characters of a path that are logged


class AccessLog:
    """A line of JSON for each request: when, who, what, how it ended, how long it took, bytes in and out."""

    def __init__(self, file: Path) -> None:
        self._stream: IO[bytes] = file.open("ab", buffering=0)
        self._failed = False

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. A full disk does not stop the service: it is said once."""
        try:
            self._stream.write(orjson.dumps(line) + b"\n")
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("The access log cannot be written: %s", error.strerror)
            self._failed = True

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: App, access: AccessLog) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass; log it when it has ended."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        scope[NOTE] = note = dict[str, Any]()
        status = sent = 0

        async def count(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, count)
        except Exception as error:
            log.exception("A request ended with %s", type(error).__name__)
            note["code"] = "failed"
            if not status:
                await answer_fault(Fault("failed", "The service has a fault; it is in its log."), count)
        finally:
            self._access.write(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "peer": scope["client"][0] if scope.get("client") else None,
                    "method": scope["method"],
                    "path": scope["path"].encode(errors="replace").decode()[:LONGEST],
                    "status": status,
                    "ms": round(1000 * (time.perf_counter() - began), 2),
                    "bytes_out": sent,
                    **note,
                }
            )


async def answer_fault(fault: Fault, send: Send) -> None:
    """Send a fault as an answer."""
    body = orjson.dumps(fault.body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
