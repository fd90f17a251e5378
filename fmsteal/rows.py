"""Rows that cost a forward pass, computed at most once: features of images, raw answers of a victim.

A `RowCache` maps image ids to float32 rows. It fills lazily: what is asked and missing is computed and published as
one more chunk file, which other jobs pick up. Imports no torch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from fmsteal.store import Store, digest, explained

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float32]
CHUNK = 4096  # rows computed before they are published: what a kill can cost


class RowCache:
    """The rows of one source (say, one victim on one pool), in ``folder``."""

    def __init__(self, store: Store, kind: str, slug: str, spec: Mapping[str, object]) -> None:
        self.store = store
        self.kind = kind
        self.folder = store.path(kind, slug, spec)
        self._row_of: dict[int, Rows] = {}
        self._read: set[str] = set()

    def get(self, ids: Ids, compute: Callable[[Ids], Rows]) -> Rows:
        """Rows of ``ids`` in their order, shape ``(len(ids), D)``. ``compute`` is called for the missing ones only."""
        ids = np.asarray(ids, dtype=np.int64)
        if any(int(i) not in self._row_of for i in ids):
            self._refresh()
        missing = np.unique(np.array([i for i in ids if int(i) not in self._row_of], dtype=np.int64))
        for start in range(0, len(missing), CHUNK):
            some = missing[start : start + CHUNK]
            self._publish(some, np.asarray(compute(some), dtype=np.float32))
        return np.stack([self._row_of[int(i)] for i in ids]) if len(ids) else np.zeros((0, 0), np.float32)

    def _refresh(self) -> None:
        for path in sorted(self.folder.glob("*.npz")):
            if path.name in self._read:
                continue
            try:
                with np.load(path) as chunk:  # the zip container carries a CRC of each member
                    self._add(chunk["ids"], chunk["rows"])
            except Exception as error:  # a damaged zip can fail in many ways
                log.warning("%s is damaged (%s): set aside", path, error)
                with suppress(FileNotFoundError):  # another process may be as quick
                    path.replace(path.with_suffix(".damaged"))
            else:
                self._read.add(path.name)

    def _publish(self, ids: Ids, rows: Rows) -> None:
        if rows.shape[0] != len(ids):
            raise ValueError(f"{len(rows)} rows were computed for {len(ids)} images")
        name = f"{digest([int(i) for i in ids])[:16]}.npz"
        with explained(self.store.root), self.store.temporary(self.kind) as folder:
            with (folder / name).open("wb") as stream:
                np.savez(stream, ids=ids, rows=rows)
                stream.flush()
                os.fsync(stream.fileno())
            self.folder.mkdir(parents=True, exist_ok=True)
            (folder / name).replace(self.folder / name)
        self._read.add(name)
        self._add(ids, rows)

    def _add(self, ids: Ids, rows: Rows) -> None:
        known = next(iter(self._row_of.values()), None)
        if rows.ndim != 2 or (known is not None and rows.shape[1] != len(known)):
            raise ValueError(f"rows of shape {rows.shape}, not of width {'any' if known is None else len(known)}")
        self._row_of.update(zip((int(i) for i in ids), rows, strict=True))
