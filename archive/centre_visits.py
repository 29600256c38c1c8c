"""Visits of an archive into the tables of a fleet's centre, whose search finds them beside those of the boxes.

As a box's stays they are kept less the mean of their camera's people: that of their day, as a stream would know it by
the evening.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from personsearch.archive.parts import Row
from personsearch.centre.database import archived
from personsearch.centre.database.days import Days
from personsearch.centre.database.migrate import migrate
from personsearch.centre.database.pool import connected
from personsearch.centre.receiving.incoming import Described, Incoming
from personsearch.core.errors import UserError
from personsearch.core.redaction import redact
from personsearch.runtime.decisions.centring import PrototypeMean, centred

ALL_DAYS = 36600  # how long they are kept is the centre's to say
Given = TypeVar("Given")


class CentreVisits:
    """A `VisitWriter`. Between two calls no connection is held: hours of video may lie between them."""

    def __init__(self, dsn: str, box: str, model: str, dimensions: int) -> None:
        """box  the name that the archive bears among the centre's boxes. Raises UserError."""
        migrate(dsn)
        self._dsn, self.box, self._model, self._dimensions = dsn, box, model, dimensions
        self._days = Days(ALL_DAYS)
        self._boot, self._written, self._mean = UUID(int=0), 0, PrototypeMean(dimensions)

    def has(self, camera: str, made_of: str) -> bool:
        return self._do(lambda c: archived.made_of(c, self.box, camera)) == self._mark(made_of)

    def begin(self, camera: str) -> None:
        self._boot = self._do(lambda c: archived.begin(c, self.box, camera))
        self._written, self._mean = 0, PrototypeMean(self._dimensions)

    def write(self, camera: str, day: str, rows: Sequence[Row]) -> None:
        """Raises UserError."""
        for number, row in enumerate(rows, self._written):
            self._mean.see(number, row.embedding, row.ended)
        offset = self._mean.offset(max(row.ended for row in rows))
        stays = [self._stay(number, row, offset) for number, row in enumerate(rows, self._written + 1)]
        self._do(lambda c: archived.write(c, self._days, stays))
        self._written += len(rows)

    def finish(self, camera: str, made_of: str) -> None:
        self._do(lambda c: archived.finish(c, self.box, camera, self._mark(made_of)))

    def keep_only(self, cameras: Collection[str]) -> None:
        self._do(lambda c: archived.keep_only(c, self.box, cameras))

    def count(self) -> int:
        return self._do(lambda c: archived.count(c, self.box))

    def _mark(self, made_of: str) -> str:
        return f"{self._model} {made_of}"

    def _stay(self, sequence: int, row: Row, offset: Any) -> Incoming:
        started, ended = (datetime.datetime.fromtimestamp(t, datetime.timezone.utc) for t in (row.started, row.ended))
        event = {
            "sighting": row.id, "camera": row.camera, "person": None, "stranger": None, "track": row.track,
            "views": row.views, "quality": row.quality, "model": self._model, "video": redact(row.video),
            "video_s": row.video_s,
        }  # fmt: skip
        looks = Described(centred(row.embedding, offset), offset)
        return Incoming(
            "stay", self.box, self._boot.hex, sequence, ended, event, started.date(), started, ended, looks
        )  # fmt: skip

    def _do(self, work: Callable[[AsyncConnection[Any]], Awaitable[Given]]) -> Given:
        async def once() -> Given:
            async with connected(self._dsn) as connection:
                return await work(connection)

        try:
            return asyncio.run(once())
        except psycopg.Error as error:
            reason = " ".join(redact(str(error)).split())[:200]
            raise UserError(f"the centre's database takes nothing ({reason}); run this again once it does") from None
