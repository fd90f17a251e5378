"""Finds a question among those answered before: a hash table in two arrays, about 40 bytes per question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
_FREE = -1
_LEAST = 256
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


class Index:
    """Maps 24-byte keys, uint64 ``(n, 3)``, to rows 0, 1, 2 ... Open addressing, with all keys of a call at once."""

    def __init__(self, room: int = 0) -> None:
        """Make an empty index with room for ``room`` keys; it grows if needed."""
        self._keys: Keys = np.empty((room, 3), np.uint64)
        self._table: npt.NDArray[np.int32] = np.full(max(_LEAST, _slots_for(room)), _FREE, np.int32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Keys:
        """The keys in the order they were added, ``(n, 3)``."""
        return self._keys[: self._count]

    def find(self, keys: Keys) -> Rows:
        """The row of each key, ``(n,)``; -1 for a missing key."""
        found = np.full(len(keys), _FREE, np.int64)
        slots, sought = self._slots(keys), np.arange(len(keys))
        while len(sought):
            rows = self._table[slots[sought]].astype(np.int64)
            sought, rows = sought[rows != _FREE], rows[rows != _FREE]
            same = (self._keys[rows] == keys[sought]).all(axis=1)
            found[sought[same]] = rows[same]
            sought = sought[~same]
            slots[sought] = (slots[sought] + 1) % len(self._table)
        return found

    def add(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Add the keys that are missing as the next rows; return which were added, ``(n,)``."""
        added = self.find(keys) == _FREE
        if len(np.unique(_mixed(keys))) < len(keys):
            _, first = np.unique(keys, axis=0, return_index=True)
            added &= np.isin(np.arange(len(keys)), first)
        new = keys[added]
        self._keys = grow(self._keys, self._count, len(new))
        self._keys[self._count : self._count + len(new)] = new
        begin, self._count = self._count, self._count + len(new)
        if 2 * self._count > len(self._table):
            self._table, begin = np.full(_slots_for(self._count), _FREE, np.int32), 0
        self._place(np.arange(begin, self._count))
        return added

    def _place(self, rows: Rows) -> None:
        slots = self._slots(self._keys[rows])
        while len(rows):
            free = self._table[slots] == _FREE
            self._table[slots[free]] = rows[free]  # if several want the same slot, one gets it
            left = self._table[slots] != rows
            rows, slots = rows[left], (slots[left] + 1) % len(self._table)

    def _slots(self, keys: Keys) -> Rows:
        return (_mixed(keys) >> np.uint64(32)).astype(np.int64) & (len(self._table) - 1)


def _slots_for(count: int) -> int:
    """A power of two that leaves at least half of the slots free."""
    return 1 << (2 * count).bit_length()


def _mixed(keys: Keys) -> npt.NDArray[np.uint64]:
    """A hash of each key. The shift in the middle mixes in the high bits, as digests may be consecutive numbers."""
    mixed = (keys * _MIX).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(32)
    mixed *= _MIX[0]
    return mixed


class Counts:
    """How often each key was counted: an `Index` with an array of counts."""

    def __init__(self) -> None:
        self._index = Index()
        self._counts: npt.NDArray[np.int32] = np.zeros(0, np.int32)

    def of(self, keys: Keys) -> Rows:
        """How often each key was counted, ``(n,)``."""
        rows, found = self._index.find(keys), np.zeros(len(keys), np.int64)
        found[rows >= 0] = self._counts[rows[rows >= 0]]
        return found

    def add(self, keys: Keys) -> None:
        """Count each key once for each time it occurs in ``keys``."""
        before = len(self._index)
        self._index.add(keys)
        self._counts = grow(self._counts, before, len(self._index) - before)
        self._counts[before : len(self._index)] = 0
        np.add.at(self._counts, self._index.find(keys), 1)


def keys_of(questions: Sequence[tuple[int, bytes, int]]) -> Keys:
    """The keys ``(n, 3)`` of questions ``(client, image, nth)``: the first 24 bytes of their records."""
    if not questions:
        return np.empty((0, 3), np.uint64)
    clients, images, nths = zip(*questions, strict=True)
    numbers = np.array([clients, nths], "<i4").T.copy()
    digests = np.frombuffer(b"".join(images), "<u8").reshape(len(questions), 2)
    return np.concatenate([numbers.view("<u8"), digests], axis=1).astype(np.uint64, copy=False)


def grow(array: npt.NDArray[Any], used: int, more: int) -> npt.NDArray[Any]:
    """The array, with room for ``more`` rows after those ``used``; a new array is an eighth larger than needed."""
    if used + more <= len(array):
        return array
    larger = np.empty((used + more + (used + more) // 8, *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
