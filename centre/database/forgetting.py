"""Erases a person in the database, and keeps events that come later from bringing him back."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from personsearch.centre.database.days import partition_name
from personsearch.centre.database.store import FORGETTING


async def forget(connection: AsyncConnection, person: str) -> dict[str, int]:
    """By id: visits with all their stays, also those that were told before the name was known; where the person was the
    runner-up of somebody else, the id is taken out. Gives how many rows of each. Then the days' files are vacuumed, so
    that the rows are gone from them.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [FORGETTING])
        await connection.execute("insert into forgotten (person) values (%s) on conflict do nothing", [person])
        numbers = [row[0] for row in await (await connection.execute(
            "select sighting from sightings where person = %s union select sighting from stays where person = %s",
            [person, person],
        )).fetchall()]  # fmt: skip
        days = {row[0] for row in await (await connection.execute(
            "select distinct day from sightings where sighting = any(%s) "
            "union select distinct day from stays where sighting = any(%s)",
            [numbers, numbers],
        )).fetchall()}  # fmt: skip
        gone = await connection.execute("delete from sightings where sighting = any(%s)", [numbers])
        stays = await delete_stays(connection, sql.SQL("sighting = any(%s)"), [numbers])
        blotted = await connection.execute(
            "update sightings set evidence = evidence || %s where evidence ->> 'runner_up' = %s",
            [Jsonb({"runner_up": None, "margin": None}), person],
        )
    await vacuum(connection, days, ("sightings", "stays"))
    return {"sightings": gone.rowcount, "stays": stays.total(), "blotted": blotted.rowcount}


async def delete_stays(connection: AsyncConnection, condition: sql.SQL, given: Sequence[Any]) -> Counter[datetime.date]:
    """In a transaction, with what is counted of them; gives how many of each day."""
    rows = await (await connection.execute(
        sql.SQL(
            "with gone as (delete from stays where {} returning day, box, camera, model) "
            "select day, box, camera, model, count(*) from gone group by 1, 2, 3, 4"
        ).format(condition),
        given,
    )).fetchall()  # fmt: skip
    await connection.cursor().executemany(
        "update stay_versions set version = version + 1 where day = %s and model = %s",
        sorted({(day, model) for day, _, _, model, _ in rows}),
    )
    gone: Counter[datetime.date] = Counter()
    for day, box, camera, model, count in rows:
        await connection.execute(
            "update tallies set stays = stays - %s where day = %s and box = %s and camera = %s and model = %s",
            [count, day, box, camera, model],
        )
        gone[day] += count
    return gone


async def vacuum(connection: AsyncConnection, days: Iterable[datetime.date], tables: Sequence[str]) -> None:
    """Frees what was deleted, in the days' files and their indexes; outside of transactions."""
    for day in sorted(days):
        for table in tables:
            await connection.execute(sql.SQL("vacuum {}").format(sql.Identifier(partition_name(table, day))))


async def forgotten(connection: AsyncConnection) -> dict[str, float]:
    """Id -> unix seconds."""
    rows = await connection.execute("select person, extract(epoch from since)::float8 from forgotten")
    return {row[0]: row[1] for row in await rows.fetchall()}
