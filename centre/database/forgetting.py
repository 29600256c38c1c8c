"""Erases a person in the database, and keeps events that come later from bringing him back."""

from __future__ import annotations

from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from personsearch.centre.database.store import FORGETTING


async def forget(connection: AsyncConnection, person: str) -> dict[str, int]:
    """By id: visits with all their stays, also those that were told before the name was known; where the person was the
    runner-up of somebody else, the id is taken out. Gives how many rows of each. Then the days' files are vacuumed, so
    that the rows are gone from them and from the index.
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
        stays = await (await connection.execute(
            "with gone as (delete from stays where sighting = any(%s) returning day, box, camera, model) "
            "select day, box, camera, model, count(*) from gone group by 1, 2, 3, 4",
            [numbers],
        )).fetchall()  # fmt: skip
        for day, box, camera, model, count in stays:
            await connection.execute(
                "update tallies set stays = stays - %s where day = %s and box = %s and camera = %s and model = %s",
                [count, day, box, camera, model],
            )
        blotted = await connection.execute(
            "update sightings set evidence = evidence || %s where evidence ->> 'runner_up' = %s",
            [Jsonb({"runner_up": None, "margin": None}), person],
        )
    for day in sorted(days):
        for table in ("sightings", "stays"):
            await connection.execute(sql.SQL("vacuum {}").format(sql.Identifier(f"{table}_{day:%Y%m%d}")))
    return {"sightings": gone.rowcount, "stays": sum(row[4] for row in stays), "blotted": blotted.rowcount}


async def forgotten(connection: AsyncConnection) -> dict[str, float]:
    """Id -> unix seconds."""
    rows = await connection.execute("select person, extract(epoch from since)::float8 from forgotten")
    return {row[0]: row[1] for row in await rows.fetchall()}
