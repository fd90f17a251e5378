"""Rows that are added one by one and read as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]


class Growing:
    """An array ``(n, width)`` that grows at its end; adding a row takes amortised constant time."""

    def __init__(self, width: int, kind: npt.DTypeLike = np.float32) -> None:
        self._room = np.empty((4, width), kind)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> Rows:
        """All rows so far, ``(n, width)``: a view that later rows do not change."""
        return self._room[: self._length]

    def fork(self) -> Growing:
        """A copy to which rows may be added; do not use it once a row has been added to the original."""
        fork = Growing.__new__(Growing)
        fork._room, fork._length = self._room, self._length
        return fork

    def append(self, row: npt.ArrayLike) -> None:
        """Add a row, ``(width,)``."""
        if self._length == len(self._room):
            room = np.empty((2 * self._length, self._room.shape[1]), self._room.dtype)
            room[: self._length] = self._room
            self._room = room
        self._room[self._length] = row
        self._length += 1
