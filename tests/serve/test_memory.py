"""What requests hold is counted together, and is free again however they end."""

from __future__ import annotations

import pytest

from fmsteal.serve.faults import Fault
from fmsteal.serve.memory import Memory


def test_requests_together_hold_no_more_than_is_allowed() -> None:
    memory = Memory(10)
    with memory.share() as first:
        first.take(6)
        with memory.share() as second, pytest.raises(Fault) as fault:
            second.take(3)
            second.take(2)
        assert (fault.value.code, fault.value.retry_after, memory.used) == ("overloaded", 1.0, 6)
        first.take(4)
    assert memory.used == 0
