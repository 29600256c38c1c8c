"""Visits of recorded video among the stays: an archive bears a box's name, and each of its cameras is written whole.

A camera that is written anew first loses what there was of it. Only once all of it is there does `made_of` say so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from psycopg import AsyncConnection, sql

from personsearch.centre.database.days import Days
from personsearch.centre.database.forgetting import delete_stays, vacuum
from personsearch.centre.database.store import write_stays
from personsearch.centre.receiving.incoming import Incoming


async def made_of(connection: AsyncConnection, box: str, camera: str) -> str:
    """What a camera's visits were made of; empty if they are not there, or not all of them."""
    rows = await connection.execute("select made_of from archives where box = %s and camera = %s", [box, camera])
    row = await rows.fetchone()
    return row[0] if row else ""


async def begin(connection: AsyncConnection, box: str, camera: str) -> UUID:
    """Erases what there is of a camera; gives the boot that its visits are to bear."""
    row = await (await connection.execute(
        "insert into archives (box, camera) values (%s, %s) on conflict (box, camera) do update set made_of = '' "
        "returning boot",
        [box, camera],
    )).fetchone()  # fmt: skip
    assert row is not None
    await _erase(connection, box, camera, row[0])
    row = await (await connection.execute(  # a key is never that of another stay: codes in memory go by keys
        "update archives set boot = gen_random_uuid() where box = %s and camera = %s returning boot", [box, camera]
    )).fetchone()  # fmt: skip
    assert row is not None
    return row[0]


async def write(connection: AsyncConnection, days: Days, visits: Sequence[Incoming]) -> None:
    """All of these or none."""
    await days.make(connection, {visit.day for visit in visits})
    async with connection.transaction():
        await write_stays(connection, visits)


async def finish(connection: AsyncConnection, box: str, camera: str, made_of: str) -> None:
    await connection.execute(
        "update archives set made_of = %s where box = %s and camera = %s", [made_of, box, camera]
    )  # fmt: skip


async def keep_only(connection: AsyncConnection, box: str, cameras: Collection[str]) -> None:
    """Erases every other camera of an archive."""
    rows = await connection.execute(
        "select camera, boot from archives where box = %s and camera <> all(%s)", [box, list(cameras)]
    )
    for camera, boot in await rows.fetchall():
        await _erase(connection, box, camera, boot)
        await connection.execute("delete from archives where box = %s and camera = %s", [box, camera])


async def count(connection: AsyncConnection, box: str) -> int:
    """Visits of an archive."""
    rows = await connection.execute(
        "select count(*) from archives join stays using (box, camera, boot) where box = %s", [box]
    )
    row = await rows.fetchone()
    return row[0] if row else 0


async def _erase(connection: AsyncConnection, box: str, camera: str, boot: UUID) -> None:
    """What the archive wrote, and the camera's mean unless a running box has a camera of that name."""
    async with connection.transaction():
        condition = sql.SQL("box = %s and camera = %s and boot = %s")
        gone = await delete_stays(connection, condition, [box, camera, boot])
        await connection.execute("delete from cameras where box = %s and camera = %s and state = ''", [box, camera])
    await vacuum(connection, gone, ("stays",))
