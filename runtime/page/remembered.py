"""What somebody looks at for a while: views that were suggested, and what a search found. In memory, for 15 minutes."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from personsearch.core.errors import UserError
from personsearch.runtime.history.searching import Found

KEEP_S, MOST = 900.0, 40
Thing = TypeVar("Thing")


class Remembered(Generic[Thing]):
    """By numbers that nobody can guess."""

    def __init__(self, what: str) -> None:
        self._what, self._things = what, dict[str, tuple[float, Thing]]()

    def keep(self, thing: Thing) -> str:
        number = secrets.token_hex(8)
        self._things[number] = (time.monotonic(), thing)
        self.forget_old()
        return number

    def get(self, number: str) -> Thing:
        """Raises UserError for what is gone."""
        if number not in self._things:
            raise UserError(f"{self._what} not kept any more; ask again")
        return self._things[number][1]

    def forget_old(self) -> None:
        now = time.monotonic()
        fresh = {number: kept for number, kept in self._things.items() if now - kept[0] < KEEP_S}
        self._things = dict(list(fresh.items())[-MOST:])

    def clear(self) -> None:
        self._things = {}


@dataclass(frozen=True, eq=False)
class Searched:
    """What was found, and a picture uint8 (h, w, 3) BGR of who was searched for, if there is one."""

    found: Found
    picture: np.ndarray | None = field(default=None, repr=False)
