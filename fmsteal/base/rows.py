"""Rows that cost a forward pass, computed at most once: features of images, raw answers of a victim.

A `RowCache` maps image ids to float32 rows. It fills lazily: missing rows are computed on request and published as
one more chunk, which other jobs pick up. Chunks are memory-mapped, not read into memory. Imports no torch.
"""

from __future__ import annotations

import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fmsteal.base.store import Store, digest, explain_errors, note_use, write_json

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float32]
CHUNK = 4096  # rows computed before they are published: the most that a kill can lose
SPEC = "spec.json"  # in the folder: what its rows are of
IN_MEMORY = 2 * 2**30  # bytes; larger results go to a memory-mapped temporary file


class RowCache:
    """The rows of one source (say, one victim on one pool), in ``folder``.

    A chunk is two files: ``<name>.npy``, the rows, and ``<name>.npz``, their ids and checksum, which is written last.
    """

    def __init__(self, store: Store, kind: str, slug: str, spec: Mapping[str, object]) -> None:
        self.store = store
        self.kind = kind
        self.folder = store.path(kind, slug, spec)
        self._spec = dict(spec)
        self._chunks: list[Rows] = []
        self._starts = [0]  # number of the first row of each chunk, counted over all chunks; last, the total
        self._number = np.zeros(0, np.int64)  # by image id: the number of its row, or -1
        self._read: set[str] = set()

    def get(self, ids: Ids, compute: Callable[[Ids], Rows]) -> Rows:
        """Rows of ``ids`` in their order, shape ``(len(ids), D)``. ``compute`` is called for the missing ones only."""
        ids = np.asarray(ids, dtype=np.int64)
        if len(self._missing(ids)):
            self._refresh()
        missing = self._missing(ids)
        for start in range(0, len(missing), CHUNK):
            some = missing[start : start + CHUNK]
            self._publish(some, np.asarray(compute(some), dtype=np.float32))
        return self._gather(ids)

    def _missing(self, ids: Ids) -> Ids:
        unknown = ids >= len(self._number)
        unknown[~unknown] = self._number[ids[~unknown]] < 0
        return np.unique(ids[unknown])

    def _gather(self, ids: Ids) -> Rows:
        if not len(ids):
            return np.zeros((0, 0), np.float32)
        numbers = self._number[ids]
        rows = self._room((len(ids), self._chunks[0].shape[1]))
        for chunk, start, end in zip(self._chunks, self._starts, self._starts[1:], strict=False):
            wanted = np.flatnonzero((numbers >= start) & (numbers < end))
            if len(wanted):
                rows[wanted] = chunk[numbers[wanted] - start]
        return rows

    def _room(self, shape: tuple[int, int]) -> Rows:
        if 4 * shape[0] * shape[1] <= IN_MEMORY:
            return np.empty(shape, np.float32)
        with explain_errors(self.store.root), tempfile.TemporaryFile(dir=self.store.root) as file:
            return np.memmap(file, np.float32, "w+", shape=shape)

    def _refresh(self) -> None:
        note_use(self.folder)
        for path in sorted(self.folder.glob("*.npz")):
            if path.name in self._read:
                continue
            try:
                ids, rows = open_chunk(path)
            except Exception as error:  # a damaged file can fail in many ways
                log.warning("%s is damaged (%s): set aside", path, error)
                for part in (path, path.with_suffix(".npy")):
                    with suppress(FileNotFoundError):  # another process may have been faster
                        part.replace(part.with_suffix(f"{part.suffix}.damaged"))
            else:
                self._read.add(path.name)
                self._add(ids, rows)

    def _publish(self, ids: Ids, rows: Rows) -> None:
        if rows.shape[0] != len(ids):
            raise ValueError(f"{len(rows)} rows were computed for {len(ids)} images")
        rows = np.ascontiguousarray(rows)
        crc = zlib.crc32(rows.data)
        name = digest([ids.tolist(), crc])[:16]  # of the content: chunks that differ in one bit do not collide
        with explain_errors(self.store.root), self.store.temporary(self.kind) as folder:
            with (folder / f"{name}.npy").open("wb") as stream:
                np.save(stream, rows)
                stream.flush()
                os.fsync(stream.fileno())
            with (folder / f"{name}.npz").open("wb") as stream:
                np.savez(stream, ids=ids, crc=np.int64(crc))
                stream.flush()
                os.fsync(stream.fileno())
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / SPEC).exists():
                write_json(self.folder / SPEC, self._spec)
            for suffix in (".npy", ".npz"):
                (folder / f"{name}{suffix}").replace(self.folder / f"{name}{suffix}")
        self._read.add(f"{name}.npz")
        self._add(ids, rows)

    def _add(self, ids: Ids, rows: Rows) -> None:
        width = self._chunks[0].shape[1] if self._chunks else None
        if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
            raise ValueError(f"rows of shape {rows.shape}, not of width {'any' if width is None else width}")
        if len(ids) and (more := int(ids.max()) + 1 - len(self._number)) > 0:
            self._number = np.concatenate([self._number, np.full(more, -1, np.int64)])
        self._number[ids] = self._starts[-1] + np.arange(len(ids))
        self._chunks.append(rows)
        self._starts.append(self._starts[-1] + len(ids))


def open_chunk(path: Path) -> tuple[Ids, Rows]:
    """The ids and rows of a published chunk, by its ``.npz``; the rows are memory-mapped and checked.

    Raises:
        Exception: the chunk is damaged; of many kinds.
    """
    with np.load(path) as index:  # the zip container holds a CRC of each member
        ids, crc = index["ids"], int(index["crc"])
    rows = np.load(path.with_suffix(".npy"), mmap_mode="r")
    if len(rows) != len(ids) or zlib.crc32(rows.data) != crc:
        raise ValueError("the rows do not match their checksum")
    return ids, rows
