"""A real service in a process of its own, and a plain client for it."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fmsteal.serve.clients import digest_key
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.warm import Command

KEY = "fms_a-key-for-tests"
PNG, JPEG, JSON = "image/png", "image/jpeg", "application/json"
BEGUN = re.compile(r"at http://[^\s]*:(\d+)$", re.MULTILINE)
Pixels = npt.NDArray[np.uint8]


class Got(NamedTuple):
    """An answer: status, headers by their lower-case names, and the body's JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        """The code of an error."""
        assert set(self.body) == {"error"} and set(self.body["error"]) == {"code", "message", "retry_after"}, self.body
        return str(self.body["error"]["code"])

    @property
    def rows(self) -> npt.NDArray[np.float64]:
        """The answers, ``(n, width)``."""
        assert self.status == 200, self.body
        return np.array([next(iter(output.values())) for output in self.body["outputs"]])


class Service:
    """A running ``fmsteal serve``."""

    def __init__(self, folder: Path, *words: str) -> None:
        """Start it at a free port, in a folder, and wait until it answers."""
        folder.mkdir(exist_ok=True)
        env = {**environment(), "FMSTEAL_KEY": KEY}
        self.process = Command(
            ("serve", *words, "--port", "0", "--state", str(folder / "state")), folder, env, joined=True
        )
        self.port = self._wait_for_port()

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.process.said()[0]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        """The folder of its records."""
        return Path(self.process.words[self.process.words.index("--state") + 1])

    def _wait_for_port(self) -> int:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            if (found := BEGUN.search(self.said)) is not None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", int(found[1])), 5):
                    return int(found[1])
            assert self.process.poll() is None, self.said
            time.sleep(0.05)
        raise AssertionError(self.said)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        key: str | None = KEY,
        timeout: float = 60,
        **headers: str,
    ) -> Got:
        """Send one request on a connection of its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            named["Authorization"] = f"Bearer {key}"
        with connect(self.port, timeout) as connection:
            connection.request(method, path, body, named)
            return receive(connection)

    def get(self, path: str, key: str | None = KEY) -> Got:
        return self.send("GET", path, key=key)

    def post(
        self, body: bytes, kind: str = PNG, path: str = "/v1/classify", key: str | None = KEY, **headers: str
    ) -> Got:
        return self.send("POST", path, body, key, Content_Type=kind, **headers)

    def ask(self, pixels: Pixels, key: str = KEY, **headers: str) -> Got:
        """Ask about images ``(n, 3, h, w)`` in one request."""
        return self.post(spell_batch([spell_image(image) for image in pixels]), JSON, key=key, **headers)

    def usage(self, key: str = KEY) -> tuple[int, float]:
        """What a key has had."""
        body = self.get("/usage", key).body
        return body["queries"], body["usd"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=60)
        assert self.process.returncode is not None
        return self.process.returncode


@contextmanager
def serve(folder: Path, *words: str) -> Iterator[Service]:
    """A service of a tiny victim of the digits, and more ``words``; killed at the end."""
    service = Service(folder, *SMALL, *words)
    try:
        yield service
    finally:
        service.stop(signal.SIGKILL)


@contextmanager
def connect(port: int, timeout: float = 60) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        yield connection
    finally:
        connection.close()


def receive(connection: http.client.HTTPConnection) -> Got:
    response = connection.getresponse()
    content = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Got(response.status, headers, json.loads(content) if headers["content-type"] == JSON else content)


def draw(count: int, seed: int = 0, side: int = 32) -> Pixels:
    """Random images, uint8 ``(count, 3, side, side)``."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def spell_image(image: Pixels, kind: str = "PNG", **options: Any) -> bytes:
    """An image ``(3, h, w)`` as a file."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, kind, **options)
    return file.getvalue()


def spell_batch(files: Sequence[bytes]) -> bytes:
    """Files as the JSON body of a request."""
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]}).encode()


def write_clients(file: Path, **clients: Mapping[str, object]) -> list[str]:
    """Write a file of clients, the key of each being its name; the words that choose it."""
    listed = {name: {"key_sha256": digest_key(name), **options} for name, options in clients.items()}
    file.write_text(json.dumps({"clients": listed}))
    return ["--clients", str(file)]
