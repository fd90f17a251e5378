"""What a job hands to its stages: where artifacts live, how models train, who is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fmsteal.progress import Progress
from fmsteal.rows import RowCache
from fmsteal.store import Store, digest
from fmsteal.tracking.base import Tracker
from fmsteal.training import Training


@dataclass(frozen=True)
class Context:
    """One job's surroundings.

    Attributes:
        store: artifacts shared between jobs.
        run_dir: the job's own folder; ``run_dir / "work"`` is for checkpoints of a run under way.
        training: the trainer's options.
        tracker: where metrics go.
        progress: what the person at the terminal sees.
        seed: the job's seed.
    """

    store: Store
    run_dir: Path
    training: Training
    tracker: Tracker
    progress: Progress
    seed: int
    _rows: dict[str, RowCache] = field(default_factory=dict, repr=False)

    def rows(self, kind: str, slug: str, spec: Mapping[str, Any]) -> RowCache:
        """The rows of this spec; one object for the whole job, so that what was read is not read again."""
        name = f"{kind}/{digest(spec)}"
        if name not in self._rows:
            self._rows[name] = RowCache(self.store, kind, slug, spec)
        return self._rows[name]

    def scratch(self, stage: str) -> Path:
        """A folder that outlives a killed process, for the checkpoints of a stage."""
        folder = self.run_dir / "work" / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def derived_seed(*parts: object) -> int:
    """A 31-bit seed of its own for each purpose, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()) >> 1


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Run a block with torch's global generator seeded by ``parts``, and put the old state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(*parts))
        yield
