"""Runs a service in this process, or in several that share one socket."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from fmsteal.base.errors import ConfigError, StoreError
from fmsteal.records.folders import ServiceFolder
from fmsteal.serve.clients import ServiceClient
from fmsteal.serve.pictures import Limits
from fmsteal.serve.served import ServedModel, open_served

log = logging.getLogger(__name__)

GRACE = 30  # seconds for what is being answered when the service is asked to stop
SOON = 10.0  # a worker that ends sooner than this ends the service
LOOK = 0.2  # seconds between two looks at the workers


@dataclass(frozen=True)
class Settings:
    """All that a worker needs, as JSON.

    Attributes:
        job: a finished job's folder, or None.
        overrides: the words that compose a job otherwise.
        clients: who may ask.
        folder: where the records are.
        limits: what one request may hold.
    """

    job: str | None
    overrides: Sequence[str]
    clients: Sequence[ServiceClient]
    folder: str
    limits: Limits

    def to_json(self) -> str:
        """The settings as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Settings:
        """The settings from one line."""
        known: dict[str, Any] = json.loads(line)
        clients = [ServiceClient(**client) for client in known.pop("clients")]
        return cls(**{**known, "clients": clients, "limits": Limits(**known["limits"])})


def require_spreadable(served: ServedModel, workers: int) -> None:
    """Check that a service may have several workers.

    Raises:
        ConfigError: its defense remembers what it was asked, or looks at batches.
    """
    if workers > 1 and served.counsel.depends != "row":
        raise ConfigError(
            f"--workers {workers}: {served.counsel.name} depends on more than one image (depends: "
            f"{served.counsel.depends}), and each worker would remember its own clients alone. Leave out --workers."
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound, not yet listening.

    Raises:
        ConfigError: the address cannot be used.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConfigError(
            f"{host}:{port} cannot be served at ({error}). Choose another: --port N, or 0 for any."
        ) from error
    return sock


def hold(folder: ServiceFolder) -> FileLock:
    """Hold a service's folder, so that no other service uses its records; released when the process ends.

    Raises:
        StoreError: another service holds it.
    """
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise StoreError(
            f"Another service works with {folder.path}. Stop it, or give this one a folder of its own: --state FOLDER."
        ) from error
    return lock


def run_here(served: ServedModel, settings: Settings, sock: socket.socket) -> None:
    """Serve in this process until it is asked to stop."""
    from fmsteal.serve.app import make_app
    from fmsteal.serve.gate import Gate
    from fmsteal.serve.on_uvicorn import run_server
    from fmsteal.serve.service import RunningService

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
    service = RunningService(served, settings.clients, ServiceFolder(Path(settings.folder)), settings.limits)
    run_server(Gate(make_app(service), service.access), sock, service.stop, GRACE)


def run_workers(settings: Settings, sock: socket.socket, count: int) -> int:
    """Serve in ``count`` processes until asked to stop; a worker that dies is started again.

    Returns:
        The exit status: 1 if a worker could not live.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    workers = {_start(settings, sock): time.monotonic() for _ in range(count)}
    while not stop.wait(LOOK):
        for worker, began in list(workers.items()):
            if worker.poll() is None:
                continue
            del workers[worker]
            if time.monotonic() - began < SOON:
                log.error("A worker ended %.1f s after its start, with status %d.", SOON, worker.returncode)
                _end(list(workers))
                return 1
            log.error("A worker ended with status %d: another is started.", worker.returncode)
            workers[_start(settings, sock)] = time.monotonic()
    _end(list(workers))
    return 0


def _start(settings: Settings, sock: socket.socket) -> subprocess.Popen[bytes]:
    sock.set_inheritable(True)
    command = [sys.executable, "-m", __name__, str(os.getpid()), str(sock.fileno()), settings.to_json()]
    return subprocess.Popen(command, pass_fds=[sock.fileno()])


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + GRACE + 5
    for worker in workers:
        try:
            worker.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()


def _end_with_parent(parent: int) -> None:
    """End this process gracefully when its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    with suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGTERM)


def leave(code: int) -> None:
    """End this process at once, without clearing its memory, which takes seconds."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main() -> None:
    """Be a worker: ``python -m fmsteal.serve.running PARENT FD SETTINGS``."""
    threading.Thread(target=_end_with_parent, args=(int(sys.argv[1]),), daemon=True).start()
    logging.basicConfig(format="[%(asctime)s][%(levelname)s] %(message)s", datefmt="%H:%M:%S")
    settings = Settings.from_json(sys.argv[3])
    run_here(open_served(settings.job, settings.overrides), settings, socket.socket(fileno=int(sys.argv[2])))
    leave(0)


if __name__ == "__main__":
    main()
