"""One visit over boxes: where somebody came from and went on to, by the ways between cameras and by looks.

From the last place of a visit to each place that a way leads to: whoever came there within the way's time, is not known
to be somebody else, and looks most alike, is taken to be the same. The same backwards from the first place.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg import AsyncConnection

from personsearch.centre.database import visits
from personsearch.centre.database.searching import of_sighting
from personsearch.centre.settings import FollowSettings

NAMED = 1.0  # the similarity that counts for two visits of one person who is enrolled


@dataclass(frozen=True, eq=False)
class Visit:
    """A visit as it is followed: its first and its last place (BOX/CAMERA), and how it looks."""

    sighting: str
    box: str
    person: str | None
    first: str
    last: str
    started: datetime.datetime
    ended: datetime.datetime
    vector: np.ndarray | None
    model: str

    def plain(self) -> dict[str, Any]:
        return {
            "sighting": self.sighting, "box": self.box, "person": self.person, "from": self.first, "to": self.last,
            "started": self.started, "ended": self.ended,
        }  # fmt: skip


async def follow(connection: AsyncConnection, number: str, settings: FollowSettings) -> list[dict[str, Any]] | None:
    """The way, its first part first; each further part has `similarity`, `after_s` and `by` (name or looks). None for
    a visit that is not kept."""
    start = await visit(connection, number)
    if start is None:
        return None
    way, seen = [start.plain() | {"asked": True}], {number}
    for forward in (True, False):
        current: Visit | None = start
        while current is not None and len(way) < settings.most:
            found = await _next(connection, current, settings, seen, forward)
            current = found[0] if found else None
            if found:
                current, similarity, by, gap = found
                seen.add(current.sighting)
                part = current.plain() | {"similarity": round(similarity, 4), "by": by, "after_s": round(gap, 3)}
                way.insert(len(way) if forward else 0, part)
    return way


async def visit(connection: AsyncConnection, number: str) -> Visit | None:
    found = await visits.sighting(connection, number)
    if found is None or not found["stays"]:
        return None
    stays = found["stays"]
    last, looks = max(stays, key=lambda stay: stay["ended"]), await of_sighting(connection, number)
    return Visit(
        number, found["box"], found["person"], f"{stays[0]['box']}/{stays[0]['camera']}",
        f"{last['box']}/{last['camera']}", stays[0]["started"], last["ended"], looks[0] if looks else None,
        looks[1] if looks else found["model"],
    )  # fmt: skip


async def _next(
    connection: AsyncConnection, current: Visit, settings: FollowSettings, seen: set[str], forward: bool
) -> tuple[Visit, float, str, float] | None:
    """The visit that goes on best, or None."""
    best: tuple[Visit, float, str, float] | None = None
    for place, low, high in _ways(settings, current.last if forward else current.first):
        box, _, camera = place.rpartition("/")
        edge = current.ended if forward else current.started
        first, last = edge + (low if forward else -high), edge + (high if forward else -low)
        key = "started" if forward else "ended"
        rows = await (await connection.execute(
            f"select distinct sighting from stays where box = %s and camera = %s and day between %s and %s "
            f"and {key} between %s and %s limit 1000",
            [box, camera, (first - datetime.timedelta(days=1)).date(), last.date(), first, last],
        )).fetchall()  # fmt: skip
        for (number,) in rows:
            other = await visit(connection, number) if number not in seen else None
            if other is None or (other.first if forward else other.last) != place:
                continue
            judged = _alike(current, other)
            gap = (other.started - current.ended if forward else current.started - other.ended).total_seconds()
            good = judged is not None and judged[0] >= settings.least_similarity
            if judged is not None and good and (best is None or judged[0] > best[1]):
                best = (other, *judged, gap)
    return best


def _ways(settings: FollowSettings, place: str) -> Iterator[tuple[str, datetime.timedelta, datetime.timedelta]]:
    for way in settings.ways:
        low, high = (datetime.timedelta(seconds=s) for s in way.seconds)
        if way.a == place:
            yield way.b, low, high
        if way.b == place:
            yield way.a, low, high


def _alike(one: Visit, other: Visit) -> tuple[float, str] | None:
    """How alike, and by what; None for two people whose names differ, and where looks cannot be compared."""
    if one.person and other.person:
        return (NAMED, "name") if one.person == other.person else None
    if one.vector is None or other.vector is None or one.model != other.model:
        return None
    return float(one.vector @ other.vector), "looks"
