"""Leases: which process may work on something, among hosts that share a file system. Imports no torch."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLease

from fmsteal.base.errors import LeaseBusy, LeaseLost

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0


class Lease:
    """The right to work on something, while the lease is held."""

    def __init__(self, claim: SoftFileLease, what: str) -> None:
        self._path, self._what = Path(claim.lock_file), what
        self._mine = self._inode()

    def require(self) -> None:
        """Check that this process still holds the lease; this reads the state of one file.

        Raises:
            LeaseLost: another process has taken it over because this one's heartbeat was missing for too long.
        """
        if self._mine is None or self._inode() != self._mine:
            raise LeaseLost(
                f"Another process has taken over {self._what} from this one, which was not heard of for too long. "
                "This one stops; nothing was lost: the same command goes on where the other one is."
            )

    def _inode(self) -> int | None:
        try:
            return self._path.lstat().st_ino
        except OSError:
            return None


@contextmanager
def lease(marker: Path, what: str, seconds: float = LEASE_SECONDS, patience: float | None = None) -> Iterator[Lease]:
    """Hold the right to work on ``what``; wait while another live process holds it.

    The marker is a file made by exclusive create and kept fresh by a heartbeat, so it needs no flock and works on
    network file systems. A holder that died is replaced: at once on the same host, otherwise after ``seconds``.

    Raises:
        LeaseBusy: another process still holds it after ``patience`` seconds (None: wait forever). A dead holder is
            recognised within ``seconds``.
    """
    marker.parent.mkdir(parents=True, exist_ok=True)
    claim = SoftFileLease(f"{marker}.lease", lease_duration=seconds, heartbeat_interval=seconds / 6)
    try:
        claim.acquire(timeout=0)
    except TimeoutError:
        log.info("waiting: another process is working on %s", what)
        if not _wait(claim, Path(claim.lock_file), seconds, patience):
            raise LeaseBusy(f"Another process is working on {what}.", marker) from None
    try:
        yield Lease(claim, what)
    finally:
        claim.release()


def _wait(claim: SoftFileLease, marker: Path, seconds: float, patience: float | None) -> bool:
    """Acquire a lease that another process holds; False if it is still held after ``patience`` seconds.

    A process killed between creating its marker and writing its name into it leaves an empty marker. Filelock takes
    that for the marker of an old release, whose owner it cannot know to be dead, and would wait forever.
    """
    nameless, since, began = None, 0.0, time.monotonic()
    while patience is None or time.monotonic() - began < patience:
        try:
            claim.acquire(timeout=seconds / 5, poll_interval=min(0.2, seconds / 50))
        except TimeoutError:
            found = _nameless(marker)
            if found is None or found != nameless:
                nameless, since = found, time.monotonic()
            elif time.monotonic() - since >= seconds:
                _take_away(marker, found)
        else:
            return True
    return False


def _nameless(marker: Path) -> tuple[int, int] | None:
    """The inode and modification time of an empty marker; None if it is missing or not empty."""
    try:
        state = marker.lstat()
    except FileNotFoundError:
        return None
    return None if state.st_size else (state.st_ino, state.st_mtime_ns)


def _take_away(marker: Path, dead: tuple[int, int]) -> None:
    """Remove a dead process's marker; if another marker has replaced it meanwhile, that one stays."""
    aside = marker.with_name(f"{marker.name}.{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        marker.rename(aside)
        if _nameless(aside) != dead:
            with suppress(FileExistsError):
                os.link(aside, marker)
        aside.unlink()


def is_held(marker: Path, seconds: float = LEASE_SECONDS) -> bool:
    """Whether a live process holds the lease of ``marker``, as far as reading files can show.

    A dead holder is noticed at once on its own host, otherwise once its heartbeat has been missing for ``seconds``.
    """
    path = Path(f"{marker}.lease")
    try:
        quiet = time.time() - path.stat().st_mtime
    except OSError:
        return False
    owner = SoftFileLease(path, lease_duration=seconds).owner
    if owner is not None and _is_this_host(owner.hostname):
        try:
            os.kill(owner.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's process, but it exists
            pass
    return quiet < seconds


def _is_this_host(name: str) -> bool:
    """Whether a lease's host is this one, so its process can be looked up (filelock adds the PID namespace)."""
    host, _, space = name.partition("?pidns-")
    try:
        ours = f"{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:
        ours = ""
    return host == socket.gethostname() and space in ("", ours)
