"""The running centre: hub, database, intake and what tidies up, begun together and ended in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from personsearch.centre.access import Keys
from personsearch.centre.codes.table import Codes
from personsearch.centre.database.days import Days
from personsearch.centre.database.forgetting import forget
from personsearch.centre.database.pool import pool_of
from personsearch.centre.gallery import GroupGallery
from personsearch.centre.receiving.intake import Intake
from personsearch.centre.settings import CentreSettings
from personsearch.core.errors import UserError
from personsearch.runtime.fleet.bucket import Bucket
from personsearch.runtime.fleet.ending import end
from personsearch.runtime.fleet.nats_connection import Hub
from personsearch.runtime.fleet.sealing import load_group_key
from personsearch.runtime.operations.audit import AuditLog

log = logging.getLogger("personsearch.centre")
TIDY_EVERY_S = 600.0
SYNC_EVERY_S = 2.0  # so late are stays of an archive found by a search through the codes


class House:
    """Raises UserError for keys and certificates that cannot be read."""

    def __init__(self, settings: CentreSettings, dsn: str) -> None:
        """dsn  of a database whose schema is up to date"""
        self.settings = settings
        self.keys = Keys(settings.keys)
        self.keys.all()
        self.audit = AuditLog(settings.audit.path, settings.audit.keep_days)
        self.audit.check()
        self.pool = pool_of(dsn, settings.database.connections)
        self.days = Days(settings.retention.days)
        self.codes = Codes()
        self.group_keys = {group.group: load_group_key(group.key) for group in settings.groups}
        boxes = frozenset([*settings.boxes, *(box for group in settings.groups for box in group.boxes)])
        self.intake = Intake(
            Hub(settings.nats, settings.name, "nats"), self.pool, self.days, self.codes,
            settings.name, boxes if settings.boxes else frozenset(), list(self.group_keys.values()),
        )  # fmt: skip
        self.galleries = {
            group.group: GroupGallery(
                Bucket(Hub(settings.nats, settings.name, "nats"), group.group), self.group_keys[group.group],
                settings.name, group.boxes, self.erase,
            )
            for group in settings.groups
        }  # fmt: skip
        self.dropped_days = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.pool.open()
        tasks = [asyncio.create_task(job) for job in self._jobs()]
        try:
            yield
        finally:
            await end(*tasks)
            self.codes.close()
            await self.pool.close(2)

    def _jobs(self) -> list[Coroutine[Any, Any, None]]:
        galleries = [gallery.run() for gallery in self.galleries.values()]
        return [self.intake.run(), self._tidy(), self._keep_codes(), *galleries]

    async def _tidy(self) -> None:
        """Days whose time is over, and old entries of the audit log."""
        while True:
            now = datetime.datetime.now(datetime.timezone.utc)
            try:
                async with self.pool.connection() as connection:
                    dropped = await self.days.drop_old(connection, now)
                self.dropped_days += len(dropped)
                if dropped:
                    log.info("dropped %d day(s) up to %s", len(dropped), dropped[-1])
                await asyncio.to_thread(self.audit.trim, now.timestamp())
            except (psycopg.Error, PoolTimeout) as error:
                log.warning("what is too old could not be removed: %s", " ".join(str(error).split())[:200])
            except Exception:
                log.exception("what is too old could not be removed")
            await asyncio.sleep(TIDY_EVERY_S)

    async def _keep_codes(self) -> None:
        """The codes as the database is: read at the start, then what other programs have changed."""
        while True:
            try:
                async with self.pool.connection() as connection:
                    await self.codes.sync(connection)
            except (psycopg.Error, PoolTimeout) as error:
                log.warning("the codes for searching could not be read: %s", " ".join(str(error).split())[:200])
            except Exception:
                log.exception("the codes for searching could not be read")
            await asyncio.sleep(SYNC_EVERY_S)

    async def erase(self, person: str) -> None:
        """Somebody, by id, in the database, whose later events are not taken either. Raises UserError."""
        try:
            async with self.pool.connection() as connection:
                done = await forget(connection, person)
                if self.codes.ready:  # else they are being read, from what there is now
                    await self.codes.sync(connection)
        except (psycopg.Error, PoolTimeout) as error:
            raise UserError(f"the database takes nothing ({type(error).__name__}); try again later") from None
        if any(done.values()):
            log.info("erased %s: %d visits, %d stays", person, done["sightings"], done["stays"])
            await asyncio.to_thread(self.audit.add, "erased", person=person, **done)

    def names(self) -> dict[str, str]:
        """Of everybody who is shared, by id."""
        return {i: name for gallery in self.galleries.values() for i, name in gallery.people().items()}

    def person_of(self, name: str) -> str | None:
        return next((i for i, known in self.names().items() if known == name), None)

    async def database_trouble(self) -> str:
        """Empty if the database answers."""
        try:
            async with self.pool.connection(2.0) as connection:
                await connection.execute("select 1")
        except (psycopg.Error, PoolTimeout) as error:
            return f"the database does not answer ({type(error).__name__})"
        return ""
