"""What is changed inside uvicorn: connections that send no request, or headers without end, are closed.

uvicorn waits for the first request of a connection, and collects headers, without a limit (0.29 to 0.54).
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0  # for the headers of a connection's first request to arrive
HEAD_BYTES = 2**16  # of address and headers


class BoundedProtocol(HttpToolsProtocol):
    """HTTP with a limit on the time and on the bytes that a request's head may take."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head = 0
        self._patience: asyncio.TimerHandle | None = self.loop.call_later(HEAD_SECONDS, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._be_patient()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Close the connection if what it sends is still no request."""
        if self._head >= 0:
            self._head += len(data)
        super().data_received(data)
        if self._head > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        """Count the bytes of the head."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The request has arrived, but for its body."""
        self._head = -1
        self._be_patient()
        super().on_headers_complete()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _close_idle(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class StoppingServer(uvicorn.Server):
    """A server that tells its application when it is asked to stop, and then ends as after any other work."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note the loop that the application runs in."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept nothing new; what is being answered is answered."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_stop)


def run_server(app: Any, sock: socket.socket, on_stop: Callable[[], None], grace: int) -> None:
    """Serve until SIGTERM or Ctrl-C, then until what was asked is answered, for ``grace`` seconds at most."""
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=grace, backlog=2048, lifespan="on",
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it has stopped
        signal.signal(number, lambda number, frame: None)
    StoppingServer(config, on_stop).run(sockets=[sock])
