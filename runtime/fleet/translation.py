"""People whom a group has with another model: described anew by the boxes that have this one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from personsearch.core.redaction import redact
from personsearch.runtime.decisions.gallery_copies import read_crop
from personsearch.runtime.decisions.person import EnrolledView
from personsearch.runtime.fleet.bucket import Bucket, Entry
from personsearch.runtime.fleet.group import GroupView, record_of
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.shared_record import Shared, Stamp, digest, sealed, without_pictures
from personsearch.runtime.operations.place import Place

log = logging.getLogger("personsearch.fleet")
Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # picture BGR uint8, boxes (N, 4) xyxy -> (N, D)


class Translator:
    """`anew`: ids of people who must be enrolled anew, because no picture of them came along."""

    def __init__(
        self, place: Place, box: str, bucket: Bucket, key: GroupKey, pictures: bool, engine: Callable[[], Embed] | None
    ) -> None:
        """pictures  whether those that were kept of views may leave the box
        engine    begins what describes pictures; None: nothing can be described here"""
        self.place, self.box, self.bucket, self.key, self.pictures = place, box, bucket, key, pictures
        self.anew = set[str]()
        self._engine = engine
        self._failed: set[str] = set()  # records whose pictures cannot be described

    async def run(self, view: GroupView, entries: dict[str, Entry]) -> None:
        """People whom the group has with another model: described anew from their pictures, if those came along. The
        result is told to the group first, so that of many boxes with this model one is heard, and then taken from
        there. Of those whom we have, name and details."""
        model, anew = self.place.model_hash, set[str]()
        embed: Embed | None = None
        for person in sorted(view.ids() - view.forgotten()):
            other, own = view.foreign(person, model), view.record(person, model)
            if other is None or other.person is None or other.header.stamp <= view.latest(person, model)[1]:
                continue
            stamp = Stamp(view.highest(person) + 1, self.box)
            if own is not None and own.person is not None:
                said = replace(own.person, name=other.person.name, details=other.person.details)
                if digest(said) != digest(own.person):
                    await self._write(record_of(said, self.place, stamp), entries)
                continue
            mark = f"{other.header.key}/{other.header.version}"
            if self._engine is None or mark in self._failed or not any(v.crop for v in other.person.views):
                anew.add(person)
                continue
            try:
                if embed is None:
                    embed = await asyncio.to_thread(self._engine)
                views = await asyncio.to_thread(_described, other.person.views, embed)
            except Exception as error:
                log.warning("%s cannot be described from pictures (%s)", person, redact(str(error))[:200])
                views = ()
            if not views:
                self._failed.add(mark)
                anew.add(person)
                continue
            made = replace(other.person, views=views, negatives=())
            await self._write(record_of(made if self.pictures else without_pictures(made), self.place, stamp), entries)
        for person in sorted(anew - self.anew):
            log.warning("enrol anew: %s was enrolled with another model, and no picture came along", person)
        self.anew = anew

    async def _write(self, record: Shared, entries: dict[str, Entry]) -> None:
        value = sealed(record, self.key)
        if len(value) <= self.bucket.largest:
            await self.bucket.write(record.header.key, value, entries.get(record.header.key))


def _described(views: tuple[EnrolledView, ...], embed: Embed) -> tuple[EnrolledView, ...]:
    found = []
    for view in views:
        picture = read_crop(view.crop) if view.crop is not None else None
        if picture is None or view.crop is None:
            continue
        (row,) = embed(picture, np.array([view.crop.box], np.float32))
        row = np.asarray(row, np.float32)
        if np.isfinite(row).all() and float(np.linalg.norm(row)) > 0:
            found.append(replace(view, embedding=row / np.float32(np.linalg.norm(row))))
    return tuple(found)
