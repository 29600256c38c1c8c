"""Who a visit is of: names that come, second thoughts, and tracks that turn out to be one.

A name joins a visit to the one that the person is on already; `tell` hears what is worth saying.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.open_visits import OpenVisits
from personsearch.runtime.decisions.recognition import Match, Recognition
from personsearch.runtime.decisions.sighting import Change, Evidence
from personsearch.runtime.decisions.strangers import Strangers
from personsearch.runtime.decisions.visits import Followed, Visit
from personsearch.runtime.settings import SightingSettings

BETTER, BETTER_BY = 1.25, 0.1  # times the quality, and by how much, that make a picture worth telling


class Tell(Protocol):
    """Says what has changed about a visit; `followed`, `frame` and `box` are what it was seen in."""

    def __call__(
        self, visit: Visit, change: Change, reason: str, followed: Followed | None = None, frame: Frame | None = None,
        box: np.ndarray | None = None, previous: str | None = None,
    ) -> None: ...  # fmt: skip


class Naming:
    """The names of the visits under way, strangers' pseudonyms too."""

    def __init__(self, settings: SightingSettings, gallery: Gallery, visits: OpenVisits, tell: Tell) -> None:
        self.settings, self.gallery = settings, gallery
        self.strangers = Strangers(settings)
        self._visits, self._tell = visits, tell

    def configure(self, settings: SightingSettings, gallery: Gallery) -> None:
        self.settings = self.strangers.settings = settings
        self.gallery = gallery

    def judge(
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
            self.call(visit, person)
            return visit, "named"
        new_camera = followed.camera not in known.open
        self._visits.join(visit, known)
        return known, "camera" if new_camera else ""

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
        self.call(visit, None)
        visit.sighting.best, visit.told_quality = None, 0.0
        if match is None or box is None:
            if visit.said:
                self._tell(visit, "corrected", "doubt", followed, frame, box, previous)
            return
        known = self._visits.of_person(match.person, followed)
        if known is None:
            self._visits.end_waiting_of(match.person, visit.domain)
        self.call(visit, match.person)
        followed.named = True
        self._prove(visit, followed, match, box)
        if visit.said:
            self._tell(visit, "corrected", "other_name", followed, frame, box, previous)
        if known is not None:
            self._visits.join(visit, known)
            self._prove(known, followed, match, box)

    def rejoin(self, frame: Frame, gone: int, kept: int) -> None:
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

    def call(self, visit: Visit, person: str | None) -> None:
        self._visits.call(visit, person, None if person is None else self.gallery.id_of(person))
