"""The wall clock may be wrong: a machine without a battery begins in 1970, until the network tells it the time."""

from __future__ import annotations

LATEST = 253_402_214_400.0  # seconds: beyond the year 9999 no calendar tells a day, in no time zone
BORN = 1_750_000_000  # seconds since the epoch: no clock of this program's users stands before 2025


def may_be_right(now: float) -> bool:
    """now  unix seconds. By a clock that is wrong nothing may be erased: all that was kept seems to lie ahead."""
    return now >= BORN
