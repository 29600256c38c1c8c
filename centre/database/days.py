"""Days as partitions: made before something is written into them, dropped when their time is over."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from psycopg import AsyncConnection, sql

PARTITIONED = ("received", "sightings", "stays")
COUNTED = ("tallies", "stay_versions")  # what else is kept of days
AHEAD = datetime.timedelta(days=2)  # so far may the clock of a box be ahead
UTC = datetime.timezone.utc


class Days:
    """Which partitions are known to be there. Connections are those of `pool`: each statement commits."""

    def __init__(self, keep_days: int) -> None:
        self.keep_days = keep_days
        self._made: set[datetime.date] = set()

    def kept(self, day: datetime.date, now: datetime.datetime) -> bool:
        """Is this a day of which something is kept at this moment?"""
        today = now.astimezone(UTC).date()
        return today - datetime.timedelta(days=self.keep_days) <= day <= today + AHEAD

    async def make(self, connection: AsyncConnection, days: Iterable[datetime.date]) -> None:
        part = sql.SQL("create table if not exists {} partition of {} for values from ({}) to ({})")
        for day in sorted(set(days) - self._made):
            bounds = day.isoformat(), (day + datetime.timedelta(days=1)).isoformat()
            for table in PARTITIONED:
                await connection.execute(part.format(_partition(table, day), sql.Identifier(table), *bounds))
            self._made.add(day)

    async def drop_old(self, connection: AsyncConnection, now: datetime.datetime) -> list[datetime.date]:
        """Drop the days whose time is over, with all that stands in them; gives which."""
        rows = await (await connection.execute(
            "select distinct substring(c.relname from '[0-9]{8}$') from pg_inherits i join pg_class c on "
            "c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent where p.relname = any(%s)",
            [list(PARTITIONED)],
        )).fetchall()  # fmt: skip
        days = sorted(datetime.datetime.strptime(row[0], "%Y%m%d").date() for row in rows if row[0])
        today = now.astimezone(UTC).date()
        over = [day for day in days if day < today - datetime.timedelta(days=self.keep_days)]
        for day in over:
            for table in PARTITIONED:
                await connection.execute(sql.SQL("drop table if exists {}").format(_partition(table, day)))
            for table in COUNTED:
                await connection.execute(sql.SQL("delete from {} where day = %s").format(sql.Identifier(table)), [day])
            self._made.discard(day)
        return over


def partition_name(table: str, day: datetime.date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _partition(table: str, day: datetime.date) -> sql.Identifier:
    return sql.Identifier(partition_name(table, day))
