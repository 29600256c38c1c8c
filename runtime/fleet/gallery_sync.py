"""A box's side of a shared gallery: what changes here goes to the group, what changed there comes into the file.

Everything goes through the gallery's own ways (`changing`, `forget`), under its lock and in one step, so that a kill at
any moment loses nothing and a running stream takes it over as it does after enroll.py. First the file, then what is
remembered of it, then the group: whatever is interrupted is found to be done already, or done again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from personsearch.core.errors import UserError
from personsearch.core.redaction import redact
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.gallery_file import begin_gallery
from personsearch.runtime.decisions.names import MAX_NAME
from personsearch.runtime.decisions.person import Person
from personsearch.runtime.fleet.bucket import Bucket, BucketDown, Entry
from personsearch.runtime.fleet.group import GroupView, gone_record, record_of
from personsearch.runtime.fleet.held import HeldReport
from personsearch.runtime.fleet.reconcile import Known, known_of, reconcile
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.shared_record import Stamp, digest, inward, outward, sealed, without_pictures
from personsearch.runtime.fleet.shared_state import Erased, SharedState, load_state
from personsearch.runtime.fleet.translation import Embed, Translator
from personsearch.runtime.operations.forget import Eraser, forget
from personsearch.runtime.operations.forget_gallery import Forgotten, NothingToErase, unfinished
from personsearch.runtime.operations.place import Place

log = logging.getLogger("personsearch.fleet")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
LOOK_S = 1.0  # at the gallery's file
AGAIN_S = 60.0  # try again what could not be finished
WINDOW = 100  # records on their way to the hub at once


@dataclass
class _Work:
    """What one look at gallery and group found to be told to the group."""

    publish: list[tuple[str, Person | None, Stamp]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)  # here, and the group does not know
    back: bool = False  # somebody is there who was forgotten
    came: int = 0
    went: int = 0


class GallerySync:
    """`run` until cancelled. `trouble` says why the group cannot be reached at the moment, or ""."""

    def __init__(
        self, place: Place, box: str, bucket: Bucket, key: GroupKey, pictures: bool = False,
        erasers: Iterable[Eraser] = (), engine: Callable[[], Embed] | None = None, make: bool = False,
    ) -> None:  # fmt: skip
        """pictures  whether those that were kept of views may leave the box
        engine    begins what describes pictures of people who were enrolled with another model
        make      the bucket at the hub, if there is none"""
        self.place, self.box, self.bucket, self.key, self.pictures = place, box, bucket, key, pictures
        self._erasers, self._make = tuple(erasers), make
        self.state: SharedState = load_state(place.gallery, bucket.group, place.model_hash)
        self.view = GroupView(key)
        self.trouble = "not connected yet"
        self._translator = Translator(place, box, bucket, key, pictures, engine)
        self._stamp: tuple[int, int, int] | None = None
        self._looked = False
        self._again = 0.0
        self._people: dict[str, Person | None] = {}  # in the gallery, as it was read last
        self._report = HeldReport(box, place.model_hash, bucket, key, self._say_once)
        self._told: set[str] = set()

    @property
    def held(self) -> set[str]:
        """Ids of who is in the gallery."""
        return set(self._people)

    @property
    def anew(self) -> set[str]:
        """Ids of people who must be enrolled anew, because no picture of them came along."""
        return self._translator.anew

    async def run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.bucket.open(self._make)
                self.view = GroupView(self.key)
                self._looked = False
                self._report.expire()
                if self.trouble:
                    log.info("gallery of group %s: connected", self.bucket.group)
                self.trouble, pause = "", FIRST_PAUSE_S
                while not self.bucket.lost.is_set():
                    await self._turn()
                    await self._wait()
                raise BucketDown("the connection was lost")
            except BucketDown as error:
                await self.bucket.close()
                self._say_down(str(error))
                pause = min(LONGEST_PAUSE_S, 2 * pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # boxes must not return all at once

    async def _wait(self) -> None:
        """Until something came, or it is time to look at the file."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.bucket.changed, self.bucket.lost)]
        await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def _turn(self) -> None:
        now, stamp = time.monotonic(), self._file_stamp()
        look = not self._looked or self.bucket.changed.is_set() or stamp != self._stamp or now >= self._again
        if look:
            self.bucket.changed.clear()
            entries = dict(self.bucket.entries)
            self.view.take(entries)
            try:
                await asyncio.to_thread(self._forget_here)
                work = await asyncio.to_thread(self._exchange)
            except (UserError, OSError) as error:  # a disk that is full, a gallery of another model
                self._say_once(f"the shared gallery cannot be kept up: {error}")
                self._again = now + AGAIN_S
                return
            self._looked, self._stamp, self._again = not work.back, stamp, now + AGAIN_S
            await self._tell(work, entries)
            await self._translator.run(self.view, entries)
        if look or self._report.due:
            await self._report.tell(self._people, self.state, self.anew)

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self.place.gallery.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    # --- here: in a thread --------------------------------------------------------------------------------------------

    def _forget_here(self) -> None:
        """Whom the group has forgotten, and this box not, or not wholly."""
        for person in sorted(self.view.forgotten()):
            done = self.state.forgotten.get(person)
            if done is not None and done.complete:
                continue
            begin_gallery(self.place.gallery, self.place.model_hash, self.place.dimensions)
            try:
                complete = bool(forget(self.place, person, self._erasers)["complete"])
            except NothingToErase:
                for eraser in self._erasers:  # there may be visits all the same
                    eraser.erase(Forgotten(person, (person,), ()))
                complete = True
            self.place.audit.add("forgotten", person=person, complete=complete, group=self.bucket.group)
            self.state.people.pop(person, None)
            self.state.forgotten[person] = Erased(time.time(), complete)
            self.state.save()
            log.info("forgot %s, as the group did%s", person, "" if complete else "; not complete yet")

    def _exchange(self) -> _Work:
        """Bring the gallery's file and the group's records together; what the group has to be told is given back."""
        work, people = _Work(), dict(self.state.people)
        with self.place.changing("shared") as gallery:
            work.forgotten = self._forgotten_here(gallery)
            gone = {*self.state.forgotten, *gallery.forgotten, *self.view.forgotten()}
            for person in gone & gallery.everybody().keys():  # from an old copy that somebody put back
                self.state.forgotten[person] = Erased(time.time(), complete=False)
                work.back = True
            ours = {i: outward(p, self.box) for i, p in gallery.everybody().items() if i not in gone}
            wanted: dict[str, Person | None] = {}
            for person in sorted({*ours, *people, *self.view.ids()} - gone):
                known = people.get(person, Known())
                theirs, stamp = self.view.latest(person, self.place.model_hash)
                if theirs is None and stamp == Stamp() and person not in ours and person not in people:
                    continue  # of another model only
                mine = ours.get(person)
                outcome = reconcile(mine, known, theirs, stamp, self.box, self.view.highest(person))
                if not _same(outcome.person, mine):
                    wanted[person] = outcome.person
                if outcome.publish:
                    work.publish.append((person, outcome.person, outcome.stamp))
                elif not _is_known(outcome.person, outcome.stamp, known):
                    people[person] = known_of(outcome.person, outcome.stamp)
            self._put(gallery, wanted)
            self._people = {i: _if_small(p) for i, p in gallery.everybody().items()}
        work.came = sum(person is not None for person in wanted.values())
        work.went = len(wanted) - work.came
        if wanted:
            self.place.audit.add("shared", group=self.bucket.group, people=sorted(wanted), removed=work.went)
            log.info("group %s: %d people came or changed, %d went", self.bucket.group, work.came, work.went)
        if people != self.state.people:
            self.state.people = people
            self.state.save()
        return work

    def _forgotten_here(self, gallery: Gallery) -> list[str]:
        """Ids that `forget` erased here. One of its ids is the person's own; those that follow from the name are told
        only if the group has them: they could be guessed at."""
        times: set[float] = set()
        found = []
        for person, when in gallery.forgotten.items():
            first = when not in times
            times.add(when)
            if first or person in self.state.people or person in self.view.ids():
                if person not in self.state.forgotten:
                    self.state.people.pop(person, None)
                    self.state.forgotten[person] = Erased(when, unfinished(self.place.gallery) != person)
                    self.state.save()
                found.append(person)
        known = self.view.forgotten()
        return [person for person in {*found, *self.state.forgotten} if person not in known]

    def _put(self, gallery: Gallery, wanted: dict[str, Person | None]) -> None:
        """Two people of one name: the one with the larger id gets it with the id behind, wherever that shows."""
        for person in wanted:
            gallery.drop(person)
        for coming in wanted.values():
            if coming is None:
                continue
            new = inward(coming, self.box)
            if new.name in gallery:
                other = gallery.person(new.name)
                if other.id > new.id:
                    gallery.put(replace(other, name=_distinct(other)))
                else:
                    new = replace(new, name=_distinct(new))
            gallery.put(new)

    # --- there --------------------------------------------------------------------------------------------------------

    async def _tell(self, work: _Work, entries: dict[str, Entry]) -> None:
        for person in sorted(work.forgotten):
            record = gone_record(person, "forgotten", Stamp(self.view.highest(person) + 1, self.box))
            if await self.bucket.write(record.header.key, sealed(record, self.key), entries.get(record.header.key)):
                await self._clear(person, entries)
        for person in sorted(self.view.gone()):  # by somebody who was killed before this
            await self._clear(person, entries)
        for first in range(0, len(work.publish), WINDOW):  # each waits for the hub's answer: not one by one
            some = work.publish[first : first + WINDOW]
            await asyncio.gather(*[self._publish(*one, entries) for one in some])
        if work.publish:
            self._save()

    async def _publish(self, person: str, state: Person | None, stamp: Stamp, entries: dict[str, Entry]) -> None:
        """One person as he is here; None: removed."""
        if state is None:
            record = gone_record(person, "removed", stamp)
        else:
            record = record_of(state if self.pictures else without_pictures(state), self.place, stamp)
        value = sealed(record, self.key)
        if len(value) > self.bucket.largest and state is not None:
            record = record_of(without_pictures(state), self.place, stamp)
            value = sealed(record, self.key)
        if len(value) > self.bucket.largest:
            self._say_once(
                f"{person} has {len(value)} bytes of views, more than the hub's max_payload takes "
                f"({self.bucket.largest}); raise it, or enrol fewer views"
            )
            return
        if await self.bucket.write(record.header.key, value, entries.get(record.header.key)):
            self.state.people[person] = known_of(state, stamp)
            if state is None:
                await self._clear(person, entries)

    async def _clear(self, person: str, entries: dict[str, Entry]) -> None:
        """Take the records of somebody who is gone out of the bucket."""
        for record in self.view.records(person):
            seen = entries.get(record.header.key)
            if seen is not None and seen.value:
                await self.bucket.delete(record.header.key, seen)

    def _save(self) -> None:
        try:
            self.state.save()
        except OSError as error:
            self._say_once(f"{self.state.path}: cannot be written ({error.strerror})")

    def _say_once(self, text: str) -> None:
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            log.error("%s", redact(text))

    def _say_down(self, reason: str) -> None:
        reason = redact(reason)
        if reason != self.trouble:
            log.warning("gallery of group %s: %s; the box works on, and it is tried again", self.bucket.group, reason)
        self.trouble = reason


def _is_known(person: Person | None, stamp: Stamp, known: Known) -> bool:
    return stamp == known.stamp and stamp != Stamp() and (digest(person) if person is not None else "") == known.digest


def _same(one: Person | None, other: Person | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or digest(one) == digest(other)


def _if_small(person: Person) -> Person | None:
    """Whom to hold, so that the next look need not make him of the same bytes again (`unpacked`): not pictures."""
    return person if all(view.crop is None for view in (*person.views, *person.negatives)) else None


def _distinct(person: Person) -> str:
    """The name with the id behind it."""
    mark = f" ({person.id})"
    return person.name if person.name.endswith(mark) else person.name[: MAX_NAME - len(mark)] + mark
