"""Rows that are added one by one and looked at as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]


class Growing:
    """An array ``(n, width)`` that grows at its end; adding a row takes the same time on average however long it is."""

    def __init__(self, width: int, kind: npt.DTypeLike = np.float32) -> None:
        self._room = np.empty((4, width), kind)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> Rows:
        """All rows so far, ``(n, width)``: a view that stays as it is."""
        return self._room[: self._length]

    def fork(self) -> Growing:
        """The same rows, to which others may be added; it is of no use any more once a row is added to this one."""
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
