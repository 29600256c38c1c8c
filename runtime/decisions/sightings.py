"""One visit, one sighting: from tracks and names of all cameras to what is worth saying once.

    tracks, matches -> see: every track belongs to a visit; a name joins it to the visit that the person is on already
                    -> absences: who was not seen for the grace time has left that camera; nobody left, the visit ends

Nothing here knows of sockets or files: listeners are told (`SightingChange`). All of it runs in the pipeline's thread.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from personsearch.core.zones import Areas, Step
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.naming import Naming
from personsearch.runtime.decisions.open_visits import OpenVisits
from personsearch.runtime.decisions.recognition import Match, Recognition
from personsearch.runtime.decisions.sighting import Change, Sighting, SightingChange, Stay
from personsearch.runtime.decisions.visits import Followed, Visit
from personsearch.runtime.decisions.watching import Neighbours, Watch
from personsearch.runtime.decisions.zones import feet_of
from personsearch.runtime.settings import StreamSettings

log = logging.getLogger("personsearch.sightings")
LOOK_EVERY_S = 0.5  # for absences
BLIND_S = 180.0  # a live camera of which nothing was analysed for so long has lost its visits: engines load faster
NOWHERE = Areas()


class Sightings:
    """Open visits of all cameras. `listeners` hear of named visits (and of strangers, if those are wanted);
    `stay_listeners` of every stay that ends, strangers' too."""

    def __init__(self, settings: StreamSettings, gallery: Gallery) -> None:
        self.listeners: list[Callable[[SightingChange], None]] = []
        self.stay_listeners: list[Callable[[Sighting, Stay], None]] = []
        self._visits = OpenVisits(self._stay_over, self._visit_over)
        self._naming = Naming(settings.sightings, gallery, self._visits, self._tell)
        self._watches: dict[str, Watch] = {}
        self._configure(settings)

    def _configure(self, settings: StreamSettings) -> None:
        self.settings = settings.sightings
        self._visits.neighbours = Neighbours.of(settings)
        self._areas = {camera.name: Areas(camera.zones, camera.lines) for camera in settings.cameras}
        self._hours = {camera.name: camera.active for camera in settings.cameras if camera.active is not None}

    @property
    def open(self) -> list[Sighting]:
        return [visit.sighting for visit in self._visits.all.values()]

    def sighting_of(self, camera: str, track: int) -> Sighting | None:
        """The visit under way that a track belongs to, if it has begun one."""
        followed = self._visits.part_of(camera, track)
        return followed.visit.sighting if followed is not None else None

    # --- one frame ----------------------------------------------------------------------------------------------------

    def see(self, frame: Frame, recognition: Recognition, matches: Sequence[Match]) -> None:
        """The concluded tracks and the matches of one camera's frame."""
        if not self.settings.enabled:
            return
        watch = self._watches.setdefault(frame.camera, Watch(frame.camera))
        watch.advance(frame)
        while recognition.joined:
            self._naming.rejoin(frame, *recognition.joined.popleft())
        named = {match.track.number: match for match in matches}
        for track in recognition.tracks:
            evidence, match = recognition.evidence.get(track.number), named.get(track.number)
            if evidence is None or not evidence.views or not (track.confirmed or match):
                continue
            followed = self._visits.part_of(frame.camera, track.number)
            if followed is None:
                followed = self._visits.begin(frame, watch, track, evidence)
            followed.see(frame, evidence, watch.looked)
            followed.visit.see(followed)
            box = frame.to_picture(np.asarray(track.box))
            step = self._place(followed, box, frame)
            self._naming.judge(followed, match, box, recognition, frame)
            self._say(followed, step, box, frame)
        if watch.looked >= watch.next_look:
            watch.next_look = watch.looked + LOOK_EVERY_S
            self._absences(watch)
            self._visits.end_waiting(self._watches, frame.monotonic)

    def _place(self, followed: Followed, box: np.ndarray, frame: Frame) -> Step:
        """Where in the picture it is; zones that were entered and lines that were crossed belong to the visit."""
        areas = self._areas.get(frame.camera, NOWHERE)
        step = areas.step(followed.path, feet_of(box[None], frame.picture_size)[0]) if areas else Step()
        followed.visit.admitted |= step.admitted or not areas.only_entering
        followed.visit.enter([*step.zones, *step.lines])
        return step

    def _say(self, followed: Followed, step: Step, box: np.ndarray, frame: Frame) -> None:
        """The visit's beginning as soon as it has a name, and from then on where it goes."""
        visit = followed.visit
        if not visit.said and visit.admitted and (visit.person or visit.sighting.pseudonym):
            visit.said = True
            self._tell(visit, "started", "named" if visit.person else "stranger", followed, frame, box)
        elif visit.said and (step.zones or step.lines):
            self._tell(visit, "updated", "zone" if step.zones else "line", followed, frame, box)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _absences(self, watch: Watch) -> None:
        grace_s, tracks = self.settings.grace_s, self._visits.tracks.setdefault(watch.name, {})
        for number in [n for n, f in tracks.items() if watch.looked - f.looked > grace_s]:
            del tracks[number]
        for visit in list(self._visits.present.get(watch.name, {}).values()):
            if watch.looked - visit.open[watch.name].looked > grace_s:
                self._visits.close(visit, watch.name, "left")

    # --- what happens outside -----------------------------------------------------------------------------------------

    def tick(self, now: float, busy: Collection[str] = ()) -> None:
        """Every second: cameras that are away, or blind, lose their visits.

        now   monotonic seconds
        busy  cameras that have frames under way: after a file's end the last ones may take their time
        """
        for watch in self._watches.values():
            since, limit = max(watch.gone_at, watch.monotonic), 0.0 if watch.over else self.settings.grace_s
            if watch.gone and watch.name not in busy and now - since > limit:
                self._visits.close_all(watch.name, watch.gone)
            elif not watch.gone and watch.domain == "machine" and now - watch.monotonic > BLIND_S:
                self._visits.close_all(watch.name, "engine")
        for camera, hours in self._hours.items():
            if self._visits.present.get(camera) and not hours.active(time.time()):
                self._visits.close_all(camera, "hours")
        self._visits.end_waiting(self._watches, now)
        self._naming.strangers.forget_older(now)

    def camera_state(self, camera: str, state: str, cause: str) -> None:
        """A camera is away: after the grace time (a file's end: at once) its stays are over, and say why."""
        watch = self._watches.get(camera)
        if watch is not None:
            watch.gone, watch.over = "" if state == "online" else cause or state, state == "ended"
            watch.gone_at = time.monotonic()

    def engine_gave_up(self) -> None:
        for camera in list(self._visits.present):
            self._visits.close_all(camera, "engine")
        self._visits.end_waiting(self._watches, math.inf)

    def apply(self, settings: StreamSettings, gallery: Gallery, touched: Sequence[str] = ()) -> None:
        """After a reload: removed cameras' stays end, those of changed ones go on within the grace time, and so does
        everybody under a new name, or by another's after a merge; whoever was forgotten ends without leaving a stay.

        touched  cameras that were removed or set up anew: their tracks have new numbers
        """
        kept = {camera.name for camera in settings.cameras}
        for name in touched:
            watch = self._watches.get(name)
            if watch is None:
                continue
            self._visits.tracks.get(name, {}).clear()
            if name not in kept or watch.domain == "files":  # a file begins anew, and so does its clock
                self._visits.close_all(name, "removed" if name not in kept else "settings")
                del self._watches[name]
            else:
                watch.gone, watch.over, watch.gone_at = "settings", False, time.monotonic()
        self._configure(settings)
        self._naming.configure(settings.sightings, gallery)
        names = gallery.names_by_id()
        for visit in [v for v in self._visits.all.values() if v.sighting.person_id is not None]:
            name_now = names.get(visit.sighting.person_id or "")
            if name_now is None:
                self._forget(visit)
            elif name_now != visit.person:
                self._rename(visit, name_now)
        if not self.settings.enabled:
            self.close("settings")

    def _rename(self, visit: Visit, name: str) -> None:
        """The same person under a new name; who was merged into somebody on a visit as well goes on with that one."""
        before, parts = visit.sighting.person_id, [part for stay in visit.open.values() for part in stay.parts]
        self._naming.call(visit, name)
        known = self._visits.of_person(name, parts[0]) if parts else None
        if known is not None:
            self._visits.join(visit, known)
        elif visit.said and visit.sighting.person_id != before:
            self._tell(visit, "updated", "named")

    def _forget(self, visit: Visit) -> None:
        for camera in list(visit.open):
            self._visits.close(visit, camera, "forgotten", keep=False)
        visit.reason = "forgotten"
        self._visits.end(visit)

    def close(self, reason: str = "stopped") -> None:
        """The stream ends, and every visit with it."""
        for camera in list(self._visits.present):
            watch = self._watches.get(camera)
            self._visits.close_all(camera, watch.gone if watch is not None and watch.gone else reason)
        for visit in list(self._visits.all.values()):
            self._visits.end(visit)
        self._visits.tracks.clear()

    # --- listeners ----------------------------------------------------------------------------------------------------

    def _stay_over(self, visit: Visit, stay: Stay) -> None:
        self._call_all(self.stay_listeners, visit.sighting, stay)

    def _visit_over(self, visit: Visit) -> None:
        if visit.said:
            self._tell(visit, "ended", visit.reason)

    def _tell(
        self, visit: Visit, change: Change, reason: str, followed: Followed | None = None, frame: Frame | None = None,
        box: np.ndarray | None = None, previous: str | None = None,
    ) -> None:  # fmt: skip
        camera = followed.camera if followed is not None else visit.last_camera
        number = followed.number if followed is not None else None
        told = SightingChange(visit.sighting, change, reason, camera, frame, number, box, previous)
        self._call_all(self.listeners, told)

    @staticmethod
    def _call_all(listeners: Sequence[Callable[..., None]], *what: Any) -> None:
        for listener in listeners:
            try:
                listener(*what)
            except Exception:  # a full disk, a bug: the cameras are more important
                log.exception("a listener to sightings failed")
