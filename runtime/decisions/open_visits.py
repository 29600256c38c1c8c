"""All visits under way, found by track, camera and person: they begin, join, part and end here, whatever the reason."""

from __future__ import annotations

from collections.abc import Callable

from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.evidence import TrackEvidence
from personsearch.runtime.decisions.sighting import Stay
from personsearch.runtime.decisions.visits import Followed, Visit
from personsearch.runtime.decisions.watching import Neighbours, Watch, clock_of

MOST = 20_000  # visits under way; beyond it those seen longest ago end
AT_ONCE = MOST // 20


class OpenVisits:
    """present  camera -> id -> visits with a stay there that goes on
    waiting  visits that no camera sees any more, but that another one may go on with
    tracks   camera -> number -> the track's part in a visit
    """

    def __init__(self, on_stay: Callable[[Visit, Stay], None], on_end: Callable[[Visit], None]) -> None:
        self._on_stay, self._on_end = on_stay, on_end
        self.all: dict[str, Visit] = {}
        self.present: dict[str, dict[str, Visit]] = {}
        self.waiting: dict[str, Visit] = {}
        self.tracks: dict[str, dict[int, Followed]] = {}
        self.neighbours = Neighbours(0.0)
        self._by_person: dict[str, list[Visit]] = {}
        self._file_anchor: float | None = None  # all files are on one axis, which begins when the first one does

    def part_of(self, camera: str, number: int) -> Followed | None:
        followed = self.tracks.setdefault(camera, {}).get(number)
        return followed if followed is not None and camera in followed.visit.open else None

    def begin(self, frame: Frame, watch: Watch, track: Track, evidence: TrackEvidence) -> Followed:
        """Somebody has come, nobody knows who."""
        if len(self.all) >= MOST:
            self._make_room()
        anchor = frame.wall - frame.moment
        if watch.domain == "files":
            self._file_anchor = anchor if self._file_anchor is None else self._file_anchor
            anchor = self._file_anchor
        # A track that comes back after its visit has ended is old, its new visit is not.
        grace_s = self.neighbours.grace_s
        first = track.first_seen if frame.moment - track.first_seen <= grace_s else frame.moment
        visit = Visit.begin(watch.domain, anchor, first, frame.camera)
        self.all[visit.sighting.id] = visit
        followed = Followed(track.number, frame.camera, evidence, visit, first, frame.moment, watch.looked)
        self.tracks.setdefault(frame.camera, {})[track.number] = followed
        self._put(visit, followed)
        return followed

    def _put(self, visit: Visit, followed: Followed) -> None:
        visit.add(followed)
        self.present.setdefault(followed.camera, {})[visit.sighting.id] = visit

    def part(self, followed: Followed) -> None:
        """The track was somebody else's all along, and goes on as a visit of its own."""
        visit, best = followed.visit, followed.visit.sighting.best
        if best is not None and (best.camera, best.track) == (followed.camera, followed.number):
            visit.sighting.best = None
        visit.leave(followed)
        if followed.camera not in visit.open:
            self.present[followed.camera].pop(visit.sighting.id, None)
        if not visit.open:
            self.waiting[visit.sighting.id] = visit
        fresh = Visit.begin(visit.domain, visit.anchor, followed.first, followed.camera)
        fresh.admitted = visit.admitted
        self.all[fresh.sighting.id] = fresh
        self._put(fresh, followed)

    def join(self, visit: Visit, known: Visit) -> None:
        """`visit` is the same visit as `known`."""
        for camera in visit.open:
            self.present[camera].pop(visit.sighting.id, None)
            self.present[camera][known.sighting.id] = known
        known.take(visit)
        self.waiting.pop(known.sighting.id, None)
        visit.reason = "joined"
        self.end(visit)

    # --- by person ----------------------------------------------------------------------------------------------------

    def call(self, visit: Visit, person: str | None, person_id: str | None) -> None:
        """The visit is this person's from now on, or nobody's."""
        self._uncall(visit)
        visit.sighting.person, visit.sighting.person_id = person, person_id
        if person is not None:
            visit.sighting.pseudonym = None
            self._by_person.setdefault(person, []).append(visit)

    def _uncall(self, visit: Visit) -> None:
        if visit.person is not None:
            others = [other for other in self._by_person.pop(visit.person, []) if other is not visit]
            if others:
                self._by_person[visit.person] = others

    def of_person(self, person: str, followed: Followed) -> Visit | None:
        """The visit under way of a person who is now recognised in this track."""
        return next((visit for visit in self._by_person.get(person, []) if self._may_join(visit, followed)), None)

    def of_stranger(self, pseudonym: str, followed: Followed) -> Visit | None:
        strangers = (v for v in self.all.values() if v.sighting.pseudonym == pseudonym)
        return next((visit for visit in strangers if self._may_join(visit, followed)), None)

    def _may_join(self, visit: Visit, followed: Followed) -> bool:
        if visit is followed.visit or visit.domain != followed.visit.domain:
            return False
        gap_s = followed.first - visit.last
        return followed.camera in visit.open or self.neighbours.possible(visit.last_camera, followed.camera, gap_s)

    def end_waiting_of(self, person: str, domain: str) -> None:
        """A new visit begins: an earlier one need not wait any more."""
        for other in list(self._by_person.get(person, [])):
            if other.domain == domain and not other.open:
                self.end(other)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self, visit: Visit, camera: str, reason: str, keep: bool = True) -> None:
        """The stay in a camera is over; with `keep` false nobody hears of it."""
        visit.reason = reason
        self.present[camera].pop(visit.sighting.id, None)
        tracks = self.tracks.get(camera, {})
        for number in {part.number for part in visit.open[camera].parts}:
            if number in tracks and tracks[number].visit is visit:
                del tracks[number]
        stay = visit.close(camera)
        if keep:
            self._on_stay(visit, stay)
        if not visit.open and not visit.said:
            self.end(visit)
        elif not visit.open:
            self.waiting[visit.sighting.id] = visit

    def close_all(self, camera: str, reason: str) -> None:
        for visit in list(self.present.get(camera, {}).values()):
            self.close(visit, camera, reason)

    def end_waiting(self, watches: dict[str, Watch], now: float) -> None:
        """now  monotonic seconds"""
        for visit in list(self.waiting.values()):
            wait_s = self.neighbours.wait_s(visit.last_camera)
            if clock_of(visit.domain, watches, now) - visit.last > wait_s:
                self.end(visit)

    def end(self, visit: Visit) -> None:
        self.all.pop(visit.sighting.id, None)
        self.waiting.pop(visit.sighting.id, None)
        self._uncall(visit)
        self._on_end(visit)

    def _make_room(self) -> None:
        """Crowds beyond measure: those that were seen longest ago end."""
        for visit in sorted(self.all.values(), key=lambda v: v.last)[:AT_ONCE]:
            for camera in list(visit.open):
                self.close(visit, camera, "limit")
            if visit.sighting.id in self.all:
                self.end(visit)
