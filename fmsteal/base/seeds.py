"""Independent random numbers for each purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*parts: object) -> int:
    """A 31-bit seed for the purpose that ``parts`` name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()) >> 1


@contextmanager
def seed_block(*parts: object) -> Iterator[None]:
    """Run a block with torch's global generator seeded by ``parts``, then restore the old state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*parts))
        yield
