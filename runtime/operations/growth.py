"""A gallery that grows by views that the stream is sure of, where asked (`growth:`): today's coat, the other camera.

    a stay ends -> choose: its best view that is surely the person and says something new   (the pipeline's thread)
                -> the gallery's file is changed as enroll.py does it, audited, undoable     (a thread of its own)
                -> the stream takes it over, and says so: an event of type `gallery`

A view that grew is taken back when its sighting is corrected later. Sources that are no live cameras teach nothing:
the same file gives the same events, run after run.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from personsearch.core.errors import UserError
from personsearch.runtime.decisions.centring import centred
from personsearch.runtime.decisions.person import EnrolledView, Person
from personsearch.runtime.decisions.sighting import Sighting, SightingChange, Stay
from personsearch.runtime.operations.place import Place
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import GrowthSettings

log = logging.getLogger("personsearch.growth")
GROWN = "grown from "  # begins the origin of such a view; the sighting's id follows
KNOWN = 0.95  # cosine to a view that the person has, at which another one says nothing new
DOUBTED_KEPT = 1000  # sightings that were corrected, remembered


@dataclass(frozen=True)
class Grown:
    """What was done to whom, for the event. `state`: grown, taken_back or failed."""

    state: str
    person: str  # id
    camera: str
    reason: str


class Growth:
    """Listens to a pipeline's sightings. All but its own thread's part is called from the pipeline's."""

    def __init__(self, pipeline: Pipeline, place: Place, reload: Callable[[], None]) -> None:
        """reload  asks the stream to read its gallery anew"""
        self._pipeline, self._people, self._place, self._reload = pipeline, pipeline.people, place, reload
        self._doubted: OrderedDict[str, None] = OrderedDict()
        self._work: queue.SimpleQueue[Callable[[], Grown | None] | None] = queue.SimpleQueue()
        self._done: deque[Grown] = deque()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        pipeline.sightings.listeners.append(self._on_change)
        pipeline.sightings.stay_listeners.append(self._on_stay)
        pipeline.every_second.append(self._every_second)

    def correct(self, event: dict[str, Any]) -> None:
        """Of each event that corrects a visit after its end. From any thread."""
        self._work.put(lambda: self._take_back(event["sighting"], event["camera"]))

    def close(self) -> None:
        self._work.put(None)
        self._thread.join(10)

    # --- the pipeline's thread ----------------------------------------------------------------------------------------

    def _on_change(self, told: SightingChange) -> None:
        if told.change == "corrected":
            self._doubted[told.sighting.id] = None
            if len(self._doubted) > DOUBTED_KEPT:
                self._doubted.popitem(last=False)
            self._work.put(lambda: self._take_back(told.sighting.id, told.camera))

    def _on_stay(self, sighting: Sighting, stay: Stay) -> None:
        view = self.choose(sighting, stay)
        if view is not None and sighting.person_id is not None:
            person = sighting.person_id
            self._work.put(lambda: self._grow(person, view))

    def choose(self, sighting: Sighting, stay: Stay) -> EnrolledView | None:
        """The best view of the stay that is surely the person and looks unlike all that is enrolled of him."""
        settings, best, gallery = self._people.settings, sighting.best, self._people.gallery
        options, match = settings.growth, settings.match
        live = any(camera.name == stay.camera and camera.live for camera in settings.cameras)
        if not live or sighting.id in self._doubted or best is None or sighting.person is None:
            return None
        decision = best.decision
        rare = decision.false_names_per_day * options.surer <= match.false_names_per_day
        if best.camera != stay.camera or decision.views < options.least_views or not rare:
            return None
        if sighting.person not in gallery:
            return None
        recognition, lineup = self._people.of(stay.camera), self._people.lineup
        own = np.array([view.embedding for view in gallery.views_of(sighting.person)])
        place = lineup.people.index(sighting.person)
        for seen in stay.views:
            row = lineup.similarities(centred(seen.embedding[None], recognition.offset))[0]
            others = np.delete(row, place)
            clear = row[place] >= decision.threshold and row[place] - others.max(initial=-1.0) >= match.min_margin
            new = float((own @ seen.embedding).max()) < KNOWN
            if seen.quality >= options.min_quality and clear and new:
                origin = f"{GROWN}{sighting.id}"
                return EnrolledView(seen.embedding, stay.camera, seen.quality, time.time(), origin)
        return None

    def _every_second(self, _now: float) -> None:
        while self._done:
            done = self._done.popleft()
            if done.state != "failed":
                self._reload()
            told = (done.state, done.person, done.camera, done.reason)
            self._pipeline.publish(self._pipeline.events.gallery_state(*told, time.time()))

    # --- its own thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            try:
                done = job()
            except UserError as error:  # a full disk, a wrong key: told, and the stream goes on with what it knows
                log.warning("the gallery does not grow: %s", error)
                done = Grown("failed", "", "", str(error))
            if done is not None:
                self._done.append(done)

    def _grow(self, person_id: str, view: EnrolledView) -> Grown | None:
        self._place.audit.check()  # what cannot be put on record is not done
        with self._place.changing("grown") as gallery:
            name = gallery.name_of(person_id)
            if name is None:  # removed or forgotten meanwhile
                return None
            person = gallery.person(name)
            gallery.put(with_room(person, self._people.settings.growth))
            gallery.add(name, view)
        sighting = view.origin.removeprefix(GROWN)
        self._place.audit.add("gallery-grown", person=person.id, camera=view.source, sighting=sighting)
        return Grown("grown", person.id, view.source, f"a view of {sighting}")

    def _take_back(self, sighting: str, camera: str) -> Grown | None:
        origin, found = f"{GROWN}{sighting}", None
        with self._place.changing("taken back") as gallery:
            for person in gallery.everybody().values():
                kept = tuple(view for view in person.views if view.origin != origin)
                if kept and len(kept) < len(person.views):
                    found = replace(person, views=kept)
            if found is not None:
                gallery.put(found)
        if found is None:
            return None
        self._place.audit.add("gallery-view-taken-back", person=found.id, camera=camera, sighting=sighting)
        return Grown("taken_back", found.id, camera, f"{sighting} was corrected")


def with_room(person: Person, options: GrowthSettings) -> Person:
    """The person with room for one more grown view: the oldest of them goes. Enrolled views never do."""
    grown = sorted((v for v in person.views if v.origin.startswith(GROWN)), key=lambda view: view.time)
    over = set(map(id, grown[: max(0, len(grown) - options.most_views + 1)]))
    return replace(person, views=tuple(v for v in person.views if id(v) not in over))
