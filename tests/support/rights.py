"""The rights of files, also for root, who may else read and write anybody's."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2  # root's rights over everybody's files (linux/capability.h)


class Header(ctypes.Structure):
    """Of `capset(2)`: version 3, the calling thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Capabilities(ctypes.Structure):
    """The first 32 of a thread, then the others."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


@contextmanager
def bound_by_rights() -> Iterator[None]:
    """Be bound by the rights of files: root gives up, for a while, that it may read and write anybody's.

    Becoming somebody else would do, where somebody else could still import from root's virtual environment.
    """
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may write anywhere")
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = Header(0x20080522, 0), (Capabilities * 2)()

    def call(name: str) -> None:
        if getattr(libc, name)(ctypes.byref(header), held):
            raise OSError(ctypes.get_errno(), name)

    call("capget")
    before = held[0].effective
    held[0].effective = before & ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    call("capset")
    try:
        yield
    finally:
        held[0].effective = before
        call("capset")


def locked(path: Path, mode: int) -> Path:
    """Somebody else's where this user is root, else one's own, with these rights."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path
