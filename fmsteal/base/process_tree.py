"""The processes that a process has started, and those that these have: found and ended.

On Linux. Elsewhere none is found: libraries are trusted to end what they have started.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

TRACKER = b"resource_tracker"  # a helper of Python's that ends by itself, after it has tidied up
Processes = dict[int, str]  # number, and when it began: numbers are used again


def terminate(processes: Processes, seconds: float) -> None:
    """Tell processes to end; kill those that have not after ``seconds`` seconds."""
    kill(processes, signal.SIGTERM)
    end = time.monotonic() + seconds
    while (left := _living(processes)) and time.monotonic() < end:
        time.sleep(0.02)
    kill(left)


def kill(processes: Processes, number: int = signal.SIGKILL) -> None:
    """Send a signal to those of the processes that are still there."""
    for pid in _living(processes):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _living(processes: Processes) -> Processes:
    """Those that are still there, and are not about to end by themselves."""
    return {pid: began for pid, began in processes.items() if _state(pid)[1:] == (began, False)}


def descendants(pid: int) -> Processes:
    """The processes that a process has started, and those that these have, and so on."""
    there, parents = _all(), {pid}
    found: Processes = {}
    while parents:
        young = {other: began for other, (parent, began, _) in there.items() if parent in parents}
        found |= young
        parents = set(young)
    return found


def children(pid: int) -> Processes:
    """The processes that a process has started itself."""
    return {other: began for other, (parent, began, _) in _all().items() if parent == pid}


def _all() -> dict[int, tuple[int, str, bool]]:
    """Every process, by number, see `_state`."""
    numbers = (int(p.name) for p in Path("/proc").glob("[0-9]*"))
    return {pid: _state(pid) for pid in numbers}


def _state(pid: int) -> tuple[int, str, bool]:
    """A process's parent, when it began, and whether it ends by itself; no such parent and time if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        helper = TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, IndexError):
        return -1, "", False
    return (-1, "", False) if fields[0] in "ZX" else (int(fields[1]), fields[19], helper)
