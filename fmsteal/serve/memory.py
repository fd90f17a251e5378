"""The memory that requests hold, within a limit that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fmsteal.serve.faults import Fault


class Share:
    """What one request holds."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self.bytes = memory, 0

    def take(self, count: int) -> None:
        """Hold ``count`` more bytes.

        Raises:
            Fault: all requests together would hold more than is allowed.
        """
        if self._memory.used + count > self._memory.most:
            raise Fault("overloaded", "Too many large requests are under way. Try again in a second.", 1.0)
        self._memory.used += count
        self.bytes += count


class Memory:
    """Bytes that bodies and decoded images may take, all together."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A request's share, free again after the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.used -= share.bytes
