"""Rows that come some at a time: arrays with room to grow, so that what is there isn't copied with each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARE = 8  # room for an eighth more rows than there are, so that a row is copied about eight times in all


class Rows:
    """What was given out (`all`) stays as it is, whatever is added or deleted afterwards."""

    def __init__(self, kind: np.dtype, *shape: int) -> None:
        """kind, shape  of one row"""
        self._room = np.zeros((0, *shape), kind)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def all(self) -> np.ndarray:
        """(N, ...)"""
        return self._room[: self._count]

    def add(self, rows: np.ndarray) -> None:
        """rows (M, ...)"""
        count = self._count + len(rows)
        if count > len(self._room):
            room = np.empty((count + count // SHARE, *self._room.shape[1:]), self._room.dtype)
            room[: self._count] = self.all
            self._room = room
        self._room[self._count : count] = rows
        self._count = count

    def delete(self, numbers: Sequence[int]) -> None:
        self._room = np.delete(self.all, numbers, axis=0)
        self._count = len(self._room)
