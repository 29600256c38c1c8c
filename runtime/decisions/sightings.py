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
from personsearch.runtime.decisions.open_visits import OpenVisits
from personsearch.runtime.decisions.recognition import Match, Recognition
from personsearch.runtime.decisions.sighting import Change, Evidence, Sighting, SightingChange, Stay
from personsearch.runtime.decisions.strangers import Strangers
from personsearch.runtime.decisions.visits import Followed, Visit
from personsearch.runtime.decisions.watching import Neighbours, Watch
from personsearch.runtime.decisions.zones import feet_of
from personsearch.runtime.settings import StreamSettings

log = logging.getLogger("personsearch.sightings")
LOOK_EVERY_S = 0.5  # for absences
BLIND_S = 180.0  # a live camera of which nothing was analysed for so long has lost its visits: engines load faster
NOWHERE = Areas()
BETTER, BETTER_BY = 1.25, 0.1  # times the quality, and by how much, that make a picture worth telling


class Sightings:
    """Open visits of all cameras. `listeners` hear of named visits (and of strangers, if those are wanted);
    `stay_listeners` of every stay that ends, strangers' too."""

    def __init__(self, settings: StreamSettings, gallery: Gallery) -> None:
        self.settings, self.gallery = settings.sightings, gallery
        self.listeners: list[Callable[[SightingChange], None]] = []
        self.stay_listeners: list[Callable[[Sighting, Stay], None]] = []
        self.strangers = Strangers(settings.sightings)
        self._visits = OpenVisits(self._stay_over, self._visit_over)
        self._watches: dict[str, Watch] = {}
        self._configure(settings)

    def _configure(self, settings: StreamSettings) -> None:
        self.settings = self.strangers.settings = settings.sightings
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
            self._rejoin(frame, *recognition.joined.popleft())
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
            self._judge(followed, match, box, recognition, frame)
            self._say(followed, step, box, frame)
        if watch.looked >= watch.next_look:
            watch.next_look = watch.looked + LOOK_EVERY_S
            self._absences(watch)
            self._visits.end_waiting(self._watches, frame.monotonic)

    def _judge(
        self, followed: Followed, match: Match | None, box: np.ndarray, recognition: Recognition, frame: Frame
    ) -> None:
        """What this frame says about who it is."""
        decision = followed.evidence.decision
        if match is not None:
            self._name(followed, match, frame, box)
        elif followed.visit.person is not None and followed.named:
            says = decision.person if decision.state == "recognised" else ""
            if says == followed.visit.person:
                followed.against = None
            elif not says and self._lasts(followed, says, frame.moment):  # another name waits for its match
                self._correct(followed, None, frame, box)
        elif self.settings.strangers and followed.visit.person is None and followed.visit.sighting.pseudonym is None:
            self._stranger(followed, recognition, frame, box)

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

    # --- names --------------------------------------------------------------------------------------------------------

    def _name(self, followed: Followed, match: Match, frame: Frame, box: np.ndarray) -> None:
        visit, person = followed.visit, match.person
        if visit.person is not None and visit.person != person:
            if self._lasts(followed, person, frame.moment):
                self._correct(followed, match, frame, box)
            return
        followed.against = None
        if visit.person is None:
            visit, reason = self._recognise(followed, person)
        else:
            reason = ""
        followed.named = True
        better = self._prove(visit, followed, match, box)
        if (reason or better) and visit.said:
            self._tell(visit, "updated", reason or "better", followed, frame, box)

    def _recognise(self, followed: Followed, person: str) -> tuple[Visit, str]:
        """Somebody unknown has a name: his visit goes on, or this one has a name from now on. Gives the visit, and what
        is worth telling of it, if anything."""
        visit, known = followed.visit, self._visits.of_person(person, followed)
        if known is None:
            self._visits.end_waiting_of(person, visit.domain)
            self._call(visit, person)
            return visit, "named"
        new_camera = followed.camera not in known.open
        self._visits.join(visit, known)
        return known, "camera" if new_camera else ""

    def _call(self, visit: Visit, person: str | None) -> None:
        self._visits.call(visit, person, None if person is None else self.gallery.id_of(person))

    def _prove(self, visit: Visit, followed: Followed, match: Match, box: np.ndarray) -> bool:
        """Keep the surest decision; says whether the visit has a picture so much better that it is worth telling."""
        best = visit.sighting.best
        if best is None or match.decision.log_likelihood_ratio > best.decision.log_likelihood_ratio:
            visit.sighting.best = Evidence(match.decision, followed.camera, match.track.number, box)
        if followed.described == followed.evidence.described:
            return False
        followed.described = followed.evidence.described
        quality = max((view.quality for view in followed.evidence.views), default=0.0)
        if quality < visit.told_quality * BETTER or quality < visit.told_quality + BETTER_BY:
            return False
        first, visit.told_quality = not visit.told_quality, quality
        return not first

    def _lasts(self, followed: Followed, says: str, moment: float) -> bool:
        """Has this track spoken against the visit's name for long enough? A glimpse overturns nothing."""
        if followed.against != says:
            followed.against, followed.against_since = says, moment
        return moment - followed.against_since >= self.settings.correct_after_s

    def _correct(self, followed: Followed, match: Match | None, frame: Frame, box: np.ndarray | None) -> None:
        """The name that was said was wrong: for this track if others bear it out, else for the whole visit."""
        visit, previous = followed.visit, followed.visit.sighting.person_id
        followed.against, followed.named = None, False
        others = any(part is not followed for stay in visit.open.values() for part in stay.parts if part.named)
        if others or len(visit.sighting.stays) > len(visit.open):
            self._visits.part(followed)
            if visit.said:
                self._tell(visit, "corrected", "track", followed, frame, box, previous)
            if match is not None and box is not None:
                self._name(followed, match, frame, box)
            return
        self._call(visit, None)
        visit.sighting.best, visit.told_quality = None, 0.0
        if match is None or box is None:
            if visit.said:
                self._tell(visit, "corrected", "doubt", followed, frame, box, previous)
            return
        known = self._visits.of_person(match.person, followed)
        if known is None:
            self._visits.end_waiting_of(match.person, visit.domain)
        self._call(visit, match.person)
        followed.named = True
        self._prove(visit, followed, match, box)
        if visit.said:
            self._tell(visit, "corrected", "other_name", followed, frame, box, previous)
        if known is not None:
            self._visits.join(visit, known)
            self._prove(known, followed, match, box)

    def _rejoin(self, frame: Frame, gone: int, kept: int) -> None:
        """The tracker found out that track `gone` is `kept`, who has come back."""
        new, old = self._visits.part_of(frame.camera, gone), self._visits.part_of(frame.camera, kept)
        tracks = self._visits.tracks[frame.camera]
        tracks.pop(gone, None)
        if new is None:
            return
        if old is None:
            new.number = kept
            tracks[kept] = new
            return
        names = {new.visit.person, old.visit.person}
        if len(names) > 1 and None not in names:
            self._correct(new, None, frame, None)
        if new.visit is not old.visit:
            if old.visit.person is None and new.visit.person is not None:
                self._visits.join(old.visit, new.visit)
            else:
                self._visits.join(new.visit, old.visit)
        old.visit.open[old.camera].merge(new, old)

    # --- strangers ----------------------------------------------------------------------------------------------------

    def _stranger(self, followed: Followed, recognition: Recognition, frame: Frame, box: np.ndarray) -> None:
        pseudonym = self.strangers.name(followed.evidence, recognition, frame.moment - followed.first)
        if pseudonym is None:
            return
        visit = followed.visit
        known = self._visits.of_stranger(pseudonym, followed)
        if known is None:
            visit.sighting.pseudonym = pseudonym
            return
        new_camera = followed.camera not in known.open
        self._visits.join(visit, known)
        if new_camera and known.said:
            self._tell(known, "updated", "camera", followed, frame, box)

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
        self.strangers.forget_older(now)

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
        self.gallery = gallery
        names = gallery.names_by_id()
        for visit in [v for v in self._visits.all.values() if v.sighting.person_id is not None]:
            name_now = names.get(visit.sighting.person_id or "")
            if name_now is None:
                self._forget(visit)
            elif name_now != visit.person:
                self._rename(visit, name_now)
        self._configure(settings)
        if not self.settings.enabled:
            self.close("settings")

    def _rename(self, visit: Visit, name: str) -> None:
        """The same person under a new name; who was merged into somebody on a visit as well goes on with that one."""
        before, parts = visit.sighting.person_id, [part for stay in visit.open.values() for part in stay.parts]
        self._call(visit, name)
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
