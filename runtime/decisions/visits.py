"""Visits under way: which tracks make up a stay, which stays a visit. `sightings.py` decides what happens to them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from personsearch.core.zones import Path
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.evidence import TrackEvidence, View
from personsearch.runtime.decisions.sighting import SeenView, Sighting, Stay

MOST_VIEWS = 5  # of a stay
MOST_PARTS = 8  # tracks of a stay that are told apart; of older ones the views are kept
MOST_STAYS = 100  # of a sighting that are listed: the first one, and the latest
MOST_ZONES = 100  # of a sighting that are listed, the latest


@dataclass(eq=False)
class Followed:
    """One track as a part of a stay. Times are moments of the camera's clock; `looked` is `Watch.looked`."""

    number: int
    camera: str
    evidence: TrackEvidence = field(repr=False)
    visit: Visit = field(repr=False)
    first: float
    last: float
    looked: float
    scale: float = 1.0  # of the analysed image, and where its corner lies in the upright picture: for views' boxes
    offset: tuple[float, float] = (0.0, 0.0)
    named: bool = False  # this track itself was recognised as the visit's person
    path: Path = field(default_factory=Path, repr=False)
    described: int = 0  # views when its pictures were looked at last
    against: str | None = None  # what its evidence says instead of the visit's person ("" for nobody) ...
    against_since: float = 0.0

    def see(self, frame: Frame, evidence: TrackEvidence, looked: float) -> None:
        self.evidence, self.last, self.looked = evidence, frame.moment, looked
        self.scale, self.offset = frame.scale, frame.offset

    def views(self) -> list[SeenView]:
        return [self._seen(view) for view in self.evidence.views]

    def _seen(self, view: View) -> SeenView:
        box = np.zeros(4, np.float32) if view.box is None else view.box
        box = (box / self.scale + np.tile(np.asarray(self.offset, np.float64), 2)).astype(np.float32)
        return SeenView(view.embedding.astype(np.float32), view.quality, box, view.moment)


@dataclass(eq=False)
class OpenStay:
    """A stay that goes on: the tracks that it is made of. Times as in `Followed`."""

    stay: Stay
    parts: list[Followed]
    first: float
    last: float
    looked: float
    older: list[SeenView] = field(default_factory=list, repr=False)  # views of parts that are told apart no more

    @property
    def named(self) -> bool:
        return any(part.named for part in self.parts)

    def see(self, part: Followed) -> None:
        self.first, self.last = min(self.first, part.first), max(self.last, part.last)
        self.looked = max(self.looked, part.looked)
        self.stay.track = part.number

    def add(self, part: Followed) -> None:
        self.parts.append(part)
        self.see(part)
        if len(self.parts) > MOST_PARTS:
            longest_ago = min(self.parts, key=lambda p: p.last)
            self.parts.remove(longest_ago)
            self.older = best(self.older + longest_ago.views())

    def merge(self, gone: Followed, kept: Followed) -> None:
        """Two parts turned out to be one track, whose evidence is joined already."""
        self.parts = [part for part in self.parts if part is not gone]
        kept.first, kept.named = min(kept.first, gone.first), kept.named or gone.named

    def views(self) -> list[SeenView]:
        return best(self.older + [view for part in self.parts for view in part.views()])


@dataclass(eq=False)
class Visit:
    """A sighting under way. `anchor` + moment = unix seconds."""

    sighting: Sighting
    domain: str  # of the cameras' clocks, see watching.py
    anchor: float
    last: float
    last_camera: str
    open: dict[str, OpenStay] = field(default_factory=dict)  # by camera
    said: bool = False
    admitted: bool = False  # no zone holds it back
    told_quality: float = 0.0  # of the best picture that was told
    reason: str = "left"  # why the latest stay ended

    @staticmethod
    def begin(domain: str, anchor: float, moment: float, camera: str) -> Visit:
        wall = anchor + moment
        sighting = Sighting(f"s-{secrets.token_hex(8)}", None, None, wall, wall)
        return Visit(sighting, domain, anchor, moment, camera)

    @property
    def person(self) -> str | None:
        return self.sighting.person

    def add(self, part: Followed) -> None:
        """One more track: in the camera's stay that goes on, or the first one of a new stay."""
        part.visit = self
        known = self.open.get(part.camera)
        if known is not None:
            known.add(part)
        else:
            stay = Stay(part.camera, self.anchor + part.first, self.anchor + part.last, part.number)
            known = self.open[part.camera] = OpenStay(stay, [part], part.first, part.last, part.looked)
            self._list(stay)
        self._date(known)

    def see(self, part: Followed) -> None:
        known = self.open[part.camera]
        known.see(part)
        self._date(known)

    def enter(self, zones: Sequence[str]) -> None:
        self.sighting.zones = [*self.sighting.zones, *zones][-MOST_ZONES:]

    def leave(self, part: Followed) -> None:
        """A track that was somebody else's all along."""
        known = self.open[part.camera]
        known.parts = [other for other in known.parts if other is not part]
        if not known.parts:
            del self.open[part.camera]
            self.sighting.stays.remove(known.stay)
            self._date_all()
            return
        known.first, known.last = min(p.first for p in known.parts), max(p.last for p in known.parts)
        known.looked = max(p.looked for p in known.parts)
        known.stay.track = known.parts[-1].number
        self._date(known)
        self._date_all()

    def take(self, other: Visit) -> None:
        """All that another visit turned out to have seen of the same person."""
        mine = self.sighting
        for stay in list(other.open.values()):
            for part in stay.parts:
                self.add(part)
            here = self.open[stay.stay.camera]
            here.first, here.older = min(here.first, stay.first), best(here.older + stay.older)
            self._date(here)
        for closed in other.sighting.stays:
            if not any(closed is stay.stay for stay in other.open.values()):
                self._list(closed)
        mine.zones = (mine.zones + other.sighting.zones)[-MOST_ZONES:]
        self.admitted = self.admitted or other.admitted
        other.open = {}

    def close(self, camera: str) -> Stay:
        known = self.open.pop(camera)
        known.stay.views = known.views()
        return known.stay

    def _date(self, known: OpenStay) -> None:
        known.stay.started, known.stay.ended = self.anchor + known.first, self.anchor + known.last
        sighting = self.sighting
        sighting.started, sighting.last_seen = (
            min(sighting.started, known.stay.started), max(sighting.last_seen, known.stay.ended),
        )  # fmt: skip
        if known.last >= self.last:
            self.last, self.last_camera = known.last, known.stay.camera

    def _date_all(self) -> None:
        """After something turned out not to belong to the visit; others always do."""
        stays = self.sighting.stays
        latest = max(stays, key=lambda stay: stay.ended)
        self.sighting.started, self.sighting.last_seen = min(stay.started for stay in stays), latest.ended
        self.last, self.last_camera = latest.ended - self.anchor, latest.camera

    def _list(self, stay: Stay) -> None:
        stays = self.sighting.stays
        stays.append(stay)
        stays.sort(key=lambda s: s.started)
        if len(stays) > MOST_STAYS:
            running = {id(known.stay) for known in self.open.values()} | {id(stay)}
            stays.remove(next((s for s in stays[1:] if id(s) not in running), stays[1]))


def best(views: Sequence[SeenView]) -> list[SeenView]:
    return sorted(views, key=lambda view: -view.quality)[:MOST_VIEWS]
