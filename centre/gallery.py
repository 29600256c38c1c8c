"""The centre's side of one group's gallery: who is shared, who holds copies, and changes that are asked of the centre.

The centre keeps no gallery of its own: the bucket at the hub is it, sealed with the group's key. Whoever is forgotten,
by a box or here, is erased in the database as well.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np

from personsearch.core.errors import GalleryError, UserError
from personsearch.core.redaction import redact
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import Crop, Details, EnrolledView, Person, new_id
from personsearch.runtime.fleet.bucket import Bucket, BucketDown
from personsearch.runtime.fleet.group import GroupView, Held, gone_record
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.shared_record import (
    GONE,
    PICTURES,
    PICTURES_DIMENSIONS,
    Header,
    Shared,
    Stamp,
    sealed,
)

log = logging.getLogger("personsearch.centre")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
TRIES = 5  # of a change that others change at the same time
AGAIN_S = 30.0  # try again what the database did not take


class GroupGallery:
    def __init__(
        self, bucket: Bucket, key: GroupKey, writer: str, boxes: tuple[str, ...],
        erase: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        """writer  the centre's name in stamps. boxes: those that belong to the group, also if they never reported.
        erase   somebody, by id, in the database; may raise UserError, then it is asked again"""
        self.bucket, self._key, self.writer, self.boxes, self._erase = bucket, key, writer, boxes, erase
        self.view = GroupView(key)
        self.trouble = "not connected yet"
        self._erased: set[str] = set()

    async def run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.bucket.open(make=True)
                self.view, self.trouble, pause = GroupView(self._key), "", FIRST_PAUSE_S
                while not self.bucket.lost.is_set():
                    self.bucket.heard.clear()
                    self._look()
                    done = await self._erase_forgotten()
                    await self._wait(AGAIN_S if done else 1.0)
                raise BucketDown("the connection was lost")
            except BucketDown as error:
                await self.bucket.close()
                reason = redact(str(error))
                if reason != self.trouble:
                    log.warning("gallery of group %s: %s; it is tried again", self.bucket.group, reason)
                self.trouble = reason
                pause = min(LONGEST_PAUSE_S, 2 * pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    def _look(self) -> None:
        self.view.take(dict(self.bucket.entries))

    async def _wait(self, timeout_s: float) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.bucket.heard, self.bucket.lost)]
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def _erase_forgotten(self) -> bool:
        for person in sorted(self.view.forgotten() - self._erased):
            try:
                await self._erase(person)
            except UserError as error:
                log.warning("%s is to be erased here as well: %s", person, error)
                return False
            self._erased.add(person)
        return True

    # --- what is asked ------------------------------------------------------------------------------------------------

    def people(self) -> dict[str, str]:
        """Id -> name of everybody shared."""
        return {i: person.name for i, person in self.view.people().items()}

    def holders(self, person: str) -> list[dict[str, Any]]:
        """Of each box of the group: what it says it has of somebody. `state`: here, not here, erased, erasing (asked
        for, and not confirmed), anew (has another model, and no pictures came along), or silent (it never reported)."""
        rows = []
        forgotten = person in self.view.forgotten()
        for box in sorted({*self.boxes, *self.view.held}):
            held = self.view.held.get(box)
            version = held.people.get(person) if held else None
            rows.append({
                "box": box, "state": _state(held, person, version, forgotten), "version": version,
                "reported": held.time if held else None, "model": held.model if held else None,
            })  # fmt: skip
        return rows

    def forgotten(self) -> dict[str, list[str]]:
        """Whoever was forgotten -> boxes that have not confirmed it."""
        return {
            person: [row["box"] for row in self.holders(person) if row["state"] in ("erasing", "silent")]
            for person in sorted(self.view.forgotten())
        }

    def pending(self) -> dict[str, int]:
        """Box -> erasures that it has not confirmed."""
        boxes = [box for left in self.forgotten().values() for box in left]
        return {box: boxes.count(box) for box in sorted({*self.boxes, *self.view.held})}

    def described(self, person: str) -> dict[str, Any] | None:
        """All but embeddings and pictures."""
        records = self.view.records(person)
        found = self.view.people().get(person)
        if found is None:
            return None
        return {
            "id": person, "group": self.bucket.group, "name": found.name, "labels": list(found.details.labels),
            "note": found.details.note, "expires": found.details.expires or None,
            "records": [
                {"model": r.header.model, "version": r.header.version, "box": r.header.box, "time": r.header.time,
                 "views": len(r.person.views) if r.person else 0}
                for r in records
            ],
            "holders": self.holders(person),
        }  # fmt: skip

    # --- what is changed ----------------------------------------------------------------------------------------------

    async def enrol(self, name: str, pictures: list[Crop], details: Details) -> str:
        """Somebody new, by pictures, which each box describes with its own model; gives the id. Raises UserError."""
        name = person_name(name)
        if name in self.people().values():
            raise GalleryError("somebody of that name is shared already; choose another name")
        views = tuple(
            EnrolledView(np.ones(PICTURES_DIMENSIONS, np.float32), origin="centre", time=time.time(), crop=crop)
            for crop in pictures
        )
        person = Person(new_id(), name, details, time.time(), views)
        record = Shared(self._header(person.id, PICTURES, PICTURES_DIMENSIONS, "here", 1), person)
        value = sealed(record, self._key)
        if len(value) > self.bucket.largest > 0:
            raise UserError(f"the pictures have {len(value)} bytes, the hub takes {self.bucket.largest}; send fewer")
        await self._write(record.header.key, value)
        return person.id

    async def change(self, person: str, name: str | None, details: Callable[[Details], Details]) -> None:
        """Name and details, in the records of all models. Raises UserError."""
        wanted = person_name(name) if name is not None else None
        if wanted is not None and any(n == wanted and i != person for i, n in self.people().items()):
            raise GalleryError("somebody of that name is shared already; choose another name")
        for _ in range(TRIES):
            self._check()
            version = self.view.highest(person) + 1
            written = True
            for record in self.view.records(person):
                assert record.person is not None
                changed = replace(
                    record.person, name=wanted or record.person.name, details=details(record.person.details)
                )
                header = self._header(person, record.header.model, record.header.dimensions, "here", version)
                written &= await self._write(header.key, sealed(Shared(header, changed), self._key), anew=False)
            if written:
                return
        raise UserError("others change this person at the same moment; try again")

    async def take_out(self, person: str, forget: bool) -> None:
        """Remove somebody (boxes may take that back), or have all boxes forget him for good. Raises UserError."""
        for _ in range(TRIES):
            self._check()
            state = "forgotten" if forget else "removed"
            record = gone_record(person, state, Stamp(self.view.highest(person) + 1, self.writer))  # type: ignore[arg-type]
            if await self._write(f"{person}.{GONE}", sealed(record, self._key), anew=False):
                for old in self.view.records(person):
                    seen = self.bucket.entries.get(old.header.key)
                    if seen is not None and seen.value:
                        await self._deleted(old.header.key, seen)
                self._look()
                return
        raise UserError("others change this person at the same moment; try again")

    def _header(self, person: str, model: str, dimensions: int, state: Any, version: int) -> Header:
        return Header(
            id=person, model=model, dimensions=dimensions, state=state, version=version, box=self.writer,
            time=time.time(),
        )  # fmt: skip

    def _check(self) -> None:
        if self.trouble:
            raise UserError(f"the group cannot be reached now ({self.trouble}); nothing was changed")
        self._look()

    async def _write(self, key: str, value: bytes, anew: bool = True) -> bool:
        if self.trouble:
            raise UserError(f"the group cannot be reached now ({self.trouble}); nothing was changed")
        try:
            written = await self.bucket.write(key, value, self.bucket.entries.get(key))
        except BucketDown as error:
            raise UserError(f"{error}; nothing was changed") from None
        self._look()
        if anew and not written:
            raise UserError("others change this person at the same moment; try again")
        return written

    async def _deleted(self, key: str, seen: Any) -> None:
        try:
            await self.bucket.delete(key, seen)
        except BucketDown as error:
            log.warning("%s: %s; a box will take it out", key, error)


def _state(held: Held | None, person: str, version: int | None, forgotten: bool) -> str:
    if held is None:
        return "silent"
    if forgotten:
        done = held.forgotten.get(person)
        return "erased" if done is not None and done.complete else "erasing"
    if person in held.anew:
        return "anew"
    return "here" if version is not None else "not here"
