"""What is kept of sightings: where somebody was, one visit, and how boxes are."""

from __future__ import annotations

import datetime
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

COLUMNS = (
    "sighting", "box", "person", "stranger", "change", "reason", "started", "last_seen", "cameras", "zones", "evidence",
    "model",
)  # fmt: skip
MOST_STAYS = 200


async def sightings(
    connection: AsyncConnection, since: datetime.datetime, until: datetime.datetime, person: str | None = None,
    boxes: tuple[str, ...] = (), limit: int = 100, before: datetime.datetime | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Visits that overlap a time, the latest first.

    before  only such that began earlier: the `started` of the last one that was given, to go on
    """
    parts, given = [sql.SQL("day between %s and %s and last_seen >= %s and started <= %s")], [
        (since - datetime.timedelta(days=1)).date(), until.date(), since, until,
    ]  # type: tuple[list[sql.Composable], list[Any]]  # fmt: skip
    for condition, value in (("person = %s", person), ("box = any(%s)", list(boxes)), ("started < %s", before)):
        if value:
            parts.append(sql.SQL(condition))  # type: ignore[arg-type]
            given.append(value)
    statement = sql.SQL("select {} from sightings where {} order by started desc limit %s").format(
        sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), sql.SQL(" and ").join(parts)
    )
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, [*given, limit])
        return await cursor.fetchall()


async def sighting(connection: AsyncConnection, number: str) -> dict[str, Any] | None:
    """One visit with its stays; a visit without events of its own (nobody was named) has stays alone."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            sql.SQL("select {} from sightings where sighting = %s order by sequence desc limit 1").format(
                sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
            ),
            [number],
        )
        found = await cursor.fetchone()
        await cursor.execute(
            "select box, camera, person, stranger, started, ended, track, views, quality, model from stays "
            "where sighting = %s order by started limit %s",
            [number, MOST_STAYS],
        )
        stays = await cursor.fetchall()
    if found is None and not stays:
        return None
    if found is None:
        first, last = stays[0], max(stays, key=lambda stay: stay["ended"])
        found = dict.fromkeys(COLUMNS) | {
            "sighting": number, "box": first["box"], "person": last["person"], "stranger": last["stranger"],
            "started": first["started"], "last_seen": last["ended"], "model": first["model"], "zones": [],
            "cameras": [],
        }  # fmt: skip
    return {**found, "stays": stays}


async def people_of(connection: AsyncConnection, numbers: list[str]) -> dict[str, str | None]:
    """Who is said to be in these visits by now: a name may have been found, or taken back, after a stay was over."""
    rows = await connection.execute("select sighting, person from sightings where sighting = any(%s)", [numbers])
    return {row[0]: row[1] for row in await rows.fetchall()}


async def boxes(connection: AsyncConnection) -> list[dict[str, Any]]:
    """How boxes and their cameras are, as far as their events said."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "select box, boot, sequence, model, first_heard, heard, event_time, engine, engine_reason, storage, "
            "settings, settings_reason from boxes order by box"
        )
        found = await cursor.fetchall()
        await cursor.execute("select box, camera, state, cause, since from cameras order by box, camera")
        cameras = await cursor.fetchall()
    for box in found:
        box["boot"] = box["boot"].hex
        box["cameras"] = [
            {key: value for key, value in camera.items() if key != "box"}
            for camera in cameras if camera["box"] == box["box"]
        ]  # fmt: skip
    return found
