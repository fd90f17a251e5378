"""Finds and ends the descendants of a process.

On Linux only. Elsewhere none are found: libraries are trusted to end what they have started.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

TRACKER = b"resource_tracker"  # a helper process of Python that ends by itself after cleaning up
Processes = dict[int, str]  # PID and start time, as PIDs are reused


def terminate(processes: Processes, seconds: float) -> None:
    """Send SIGTERM to processes; kill those still running after ``seconds`` seconds."""
    kill(processes, signal.SIGTERM)
    end = time.monotonic() + seconds
    while (left := _living(processes)) and time.monotonic() < end:
        time.sleep(0.02)
    kill(left)


def kill(processes: Processes, number: int = signal.SIGKILL) -> None:
    """Send a signal to those processes that are still running."""
    for pid in _living(processes):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _living(processes: Processes) -> Processes:
    """Those that are still running and will not end by themselves."""
    return {pid: began for pid, began in processes.items() if _state(pid)[1:] == (began, False)}


def descendants(pid: int) -> Processes:
    """The children of a process, their children, and so on."""
    there, parents = _all(), {pid}
    found: Processes = {}
    while parents:
        young = {other: began for other, (parent, began, _) in there.items() if parent in parents}
        found |= young
        parents = set(young)
    return found


def children(pid: int) -> Processes:
    """The direct children of a process."""
    return {other: began for other, (parent, began, _) in _all().items() if parent == pid}


def _all() -> dict[int, tuple[int, str, bool]]:
    """The state of every process by PID, see `_state`."""
    numbers = (int(p.name) for p in Path("/proc").glob("[0-9]*"))
    return {pid: _state(pid) for pid in numbers}


def _state(pid: int) -> tuple[int, str, bool]:
    """A process's parent, start time, and whether it ends by itself; (-1, "", False) if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        helper = TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, IndexError):
        return -1, "", False
    return (-1, "", False) if fields[0] in "ZX" else (int(fields[1]), fields[19], helper)
