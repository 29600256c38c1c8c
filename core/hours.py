"""Hours of the week, in a time zone: `mon-fri 08:00-18:00`, `sat,sun 22:00-04:00`, `daily 00:00-24:00`."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from functools import lru_cache

from pydantic import Field, field_validator

from personsearch.core.config import Settings

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOW = re.compile(r"(?P<days>[a-z,-]+)\s+(?P<from>\d{1,2}):(?P<from_m>\d\d)\s*-\s*(?P<to>\d{1,2}):(?P<to_m>\d\d)")
FORM = "expected days and hours such as 'mon-fri 08:00-18:00', 'sat,sun 22:00-04:00' or 'daily 00:00-24:00'"
Window = tuple[frozenset[int], int, int]  # weekdays (0 = Monday), first minute of the day, end minute


class HoursSettings(Settings):
    hours: tuple[str, ...] = Field(min_length=1, max_length=50)
    time_zone: str = ""

    @field_validator("hours")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            window_of(text)
        return value

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            _zone(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                "unknown time zone; expected a name such as Europe/Berlin (without the system's tzdata: pip install "
                "tzdata), or nothing for the machine's own"
            ) from None
        return value

    def active(self, wall: float) -> bool:
        """Is `wall`, in unix seconds, within one of the windows? A window over midnight belongs to the day it began."""
        local = datetime.datetime.fromtimestamp(wall, _zone(self.time_zone))
        day, minute = local.weekday(), local.hour * 60 + local.minute
        for days, begin, end in map(window_of, self.hours):
            if begin < end:
                if day in days and begin <= minute < end:
                    return True
            elif (day in days and minute >= begin) or ((day - 1) % 7 in days and minute < end):
                return True
        return False


@lru_cache(maxsize=64)
def _zone(name: str) -> zoneinfo.ZoneInfo | None:
    return zoneinfo.ZoneInfo(name) if name else None


@lru_cache(maxsize=1024)
def window_of(text: str) -> Window:
    """Raises ValueError for anything that is none."""
    found = WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"'{text}': {FORM}")
    begin, end = (int(found[key]) * 60 + int(found[f"{key}_m"]) for key in ("from", "to"))
    minutes = max(int(found["from_m"]), int(found["to_m"]))
    if not (0 <= begin < 1440 and 0 <= end <= 1440 and begin != end and minutes < 60):
        raise ValueError(f"'{text}': hours go from 00:00 to 24:00, and the end differs from the beginning")
    days: set[int] = set()
    for part in found["days"].split(","):
        first, _, last = part.partition("-")
        if part == "daily":
            days |= set(range(7))
        elif first in DAYS and (not last or last in DAYS) and not part.endswith("-"):
            low, high = DAYS.index(first), DAYS.index(last or first)
            days |= {day % 7 for day in range(low, high + 1 + (7 if high < low else 0))}
        else:
            raise ValueError(f"'{text}': {FORM}")
    return frozenset(days), begin, end
