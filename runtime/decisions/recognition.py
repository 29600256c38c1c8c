"""One camera's people: from detections over tracks, views and evidence to decisions.

frame -> see: tracker, and which people to describe -> (the engine describes) -> learn: views, same or other person
      -> decide: looks that are due, one place for each person -> matches
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from personsearch.core.cut_out import CutOut, cut_out
from personsearch.core.quality import Quality, quality_of
from personsearch.core.records import Detections
from personsearch.core.tracking.reunite import reunite
from personsearch.core.tracking.tracker import Track, Tracker
from personsearch.runtime.cameras.frames import Shot
from personsearch.runtime.decisions.centring import PrototypeMean, centred
from personsearch.runtime.decisions.evidence import Decision, TrackEvidence, View
from personsearch.runtime.decisions.judge import Judge
from personsearch.runtime.settings import DescribeSettings

ASKED = (1, 2, 3, 5)  # views after which a new track may turn out to be a lost one
FEW = 2  # views
BETTER = 2  # urgency of further views of somebody who is known
HIDDEN = 0.4  # a person covered by more than this is described only if there is nothing better


@dataclass
class Want:
    """A person who should be described: the best picture since the wish arose."""

    track: Track
    part: CutOut
    place: np.ndarray  # (4,) the person's box in the analysed image
    quality: Quality
    moment: float  # of the picture, stream seconds
    since: float  # of the wish
    doubt: bool  # it may be somebody else
    views: int  # that the track has
    shot: Shot | None = None  # where the camera's other stream may have a better picture

    @property
    def picture(self) -> np.ndarray:
        """uint8 (h, w, 3) BGR"""
        return self.part.picture

    @property
    def box(self) -> np.ndarray:
        """(4,) xyxy of the person in the picture"""
        return self.part.box

    @property
    def urgency(self) -> int:
        """0 for somebody of whom hardly anything is known, 1 for a doubt, `BETTER` for better views."""
        return 0 if self.views < FEW else 1 if self.doubt else BETTER


Wanted = tuple[str, Want]  # with the camera's name


@dataclass(frozen=True)
class Match:
    """An enrolled person in this frame, and why we think so."""

    track: Track
    person: str
    decision: Decision

    @property
    def similarity(self) -> float:
        return self.decision.similarity


class Recognition:
    """State of one camera. All times are seconds of the stream's own clock (`Frame.moment`), so that a file gives the
    same decisions on any machine; `wall` times, for the camera's mean, are given where they are needed."""

    def __init__(self, tracker: Tracker, settings: DescribeSettings, mean: PrototypeMean, judge: Judge) -> None:
        self.tracker, self.settings, self.mean, self.judge = tracker, settings, mean, judge
        self.evidence: dict[int, TrackEvidence] = {}
        self.wants: dict[int, Want] = {}
        self.tracks: list[Track] = []  # seen in the latest frame,
        self.moment = -np.inf  # and when that was
        self.magnified = 1.0  # rows of the picture that people are described from, for each of the analysed image
        self.fetched: set[int] = set()  # numbers of tracks of whom a better picture is on its way
        self.described = self.reunited = self.split = 0
        self.offset = np.zeros(mean.dimensions, np.float32)  # the camera's mean, as of the latest decision
        self.joined: deque[tuple[int, int]] = deque(maxlen=1000)  # numbers of tracks that turned out to be earlier ones

    # --- what to describe -----------------------------------------------------------------------------------------

    def see(
        self, image: np.ndarray, detections: Detections, moment: float, wall: float, shot: Shot | None = None
    ) -> list[Track]:
        """Follow one frame's detections. Those that came with embeddings count as described."""
        self.tracks, self.moment = self.tracker.update(detections, moment), moment
        ready = detections.embeddings.shape[1] > 0
        for track in self.tracks:
            wish = self._wish(track, moment, ready)
            if wish is None:
                continue
            old = self.wants.get(track.number)
            want = self._cut_out(track, image, moment, wish, 0.0 if ready or old is None else old.quality.value)
            if want is None:
                continue
            if ready:
                self.learn(want, detections.embeddings[track.row], wall)
            else:
                since, unsure = (moment, wish) if old is None else (old.since, wish or old.doubt)
                self.wants[track.number] = replace(want, since=since, doubt=unsure, shot=shot)
        self._forget(moment)
        return self.tracks

    def _wish(self, track: Track, moment: float, ready: bool) -> bool | None:
        """Whether the wish to describe this track now is a doubt; None for no wish."""
        options = self.settings
        if track.low or track.sightings < self.tracker.settings.min_sightings or track.number in self.fetched:
            return None
        evidence = self.evidence.setdefault(track.number, TrackEvidence())
        evidence.doubt = evidence.doubt or (track.doubt and evidence.described > 0)
        age = moment - evidence.latest
        if evidence.strange:  # is it somebody else? soon again
            return True if age >= options.first_every_s else None
        if evidence.doubt and track.covered < HIDDEN and age >= options.doubt_every_s:
            return True
        if evidence.described < options.first_views:
            return False if age >= options.first_every_s else None
        every = options.better_every_s if evidence.described < self.judge.last_look else options.again_every_s
        return False if age >= (options.first_every_s if ready else every) else None

    def _cut_out(self, track: Track, image: np.ndarray, moment: float, doubt: bool, least: float) -> Want | None:
        """The person's own picture, with a margin; None where it is too poor, unless nothing better comes for long.

        least  quality of the picture that waits already: a poorer one is not cut out"""
        quality = quality_of(image, track.box, track.score, track.covered, self.magnified)
        evidence = self.evidence[track.number]
        if quality.value < least:
            return None
        if quality.value < self.settings.min_quality and (evidence.described or moment - track.first_seen < 2.0):
            return None
        part = cut_out(image, track.box)
        if part is None:
            return None
        return Want(track, part, track.box, quality, moment, moment, doubt, evidence.described)

    # --- what descriptions say --------------------------------------------------------------------------------------

    def learn(self, want: Want, embedding: np.ndarray, wall: float) -> None:
        """A view of a track has been described: is it still the same person, or one who was lost?"""
        self.wants.pop(want.track.number, None)
        self.fetched.discard(want.track.number)
        evidence = self.evidence.get(want.track.number)
        if evidence is None or not np.isfinite(embedding).all():
            return  # the track ended meanwhile
        self.described += 1
        view = View(embedding, want.quality.value, want.moment, want.place)
        offset = self.mean.offset(wall)
        if want.doubt and evidence.views:
            own = float(centred(evidence.vector, offset) @ centred(embedding, offset))
            if own < self.settings.same_similarity:
                self._somebody_else(want.track, evidence, view, offset, wall)
                return
        evidence.doubt, evidence.strange = False, []
        evidence.add(view)
        self._look_for_lost(want.track, evidence, offset, want.moment)
        self.mean.see(want.track.number, evidence.vector, wall)

    def _somebody_else(
        self, track: Track, evidence: TrackEvidence, view: View, offset: np.ndarray, wall: float
    ) -> None:
        """Two strange views that agree with each other: the track has moved onto another person."""
        evidence.strange.append(view)
        evidence.latest = view.moment
        if len(evidence.strange) < 2:
            return
        one, two = (centred(v.embedding, offset) for v in evidence.strange[-2:])
        if float(one @ two) < self.settings.same_similarity:
            evidence.strange = evidence.strange[-1:]
            return
        other, fresh = self.tracker.split(track), TrackEvidence()
        for strange in evidence.strange:
            fresh.add(strange)
        evidence.strange, evidence.doubt = [], False
        self.evidence[other.number] = fresh
        self.tracks = [other if t is track else t for t in self.tracks]
        self.split += 1
        self._look_for_lost(other, fresh, offset, view.moment)

    def _look_for_lost(self, track: Track, evidence: TrackEvidence, offset: np.ndarray, moment: float) -> None:
        """Somebody whom this camera has lost and who looks like this track: it goes on under the earlier number."""
        if evidence.described not in ASKED:
            return
        lost = [t for t in self.tracker.lost(moment) if t.last_seen < track.first_seen and t.number in self.evidence]
        lost = [t for t in lost if self.evidence[t.number].views]
        if not lost:
            return
        vectors = np.array([centred(self.evidence[t.number].vector, offset) for t in lost])
        looks = centred(evidence.vector, offset)[None]
        pairs = reunite([track], lost, looks, vectors, self.settings.reunite_similarity)
        if not pairs:
            return
        earlier = pairs[0][1]
        joined = self.tracker.rejoin(track, earlier)
        self.evidence.pop(track.number, None)
        self.wants.pop(track.number, None)
        self.evidence[joined.number].join(evidence)
        self.tracks = [joined if t is track else t for t in self.tracks]
        self.joined.append((track.number, joined.number))
        self.reunited += 1

    # --- who it is --------------------------------------------------------------------------------------------------

    def decide(self, wall: float) -> list[Match]:
        """Take the looks that are due. Gives the people recognised in the latest frame, each in one place."""
        self.offset = offset = self.mean.offset(wall)
        current = [(t, self.evidence[t.number]) for t in self.tracks if t.number in self.evidence]
        self.judge.look([e for _, e in current], offset)
        # A poor box, or somebody who may have changed places, is followed, but not named.
        clear = [(t, e) for t, e in current if not t.low and not e.strange]
        return self._one_place_each([Match(t, e.decision.person, e.decision) for t, e in clear])

    @staticmethod
    def _one_place_each(named: Sequence[Match]) -> list[Match]:
        best: dict[str, Match] = {}
        for match in named:
            if match.decision.state != "recognised":
                continue
            rival = best.get(match.person)
            if rival is None or match.decision.log_likelihood_ratio > rival.decision.log_likelihood_ratio:
                best[match.person] = match
        return sorted(best.values(), key=lambda m: m.track.number)

    def candidates(self) -> list[Match]:
        """People of the latest frame who are possibly somebody enrolled: for a person to review."""
        found = [(t, self.evidence[t.number].decision) for t in self.tracks if t.number in self.evidence]
        return [Match(t, d.person, d) for t, d in found if d.state == "possible"]

    def _forget(self, moment: float) -> None:
        """Evidence lasts as long as the tracker remembers the track."""
        if len(self.evidence) > 2 * len(self.tracks):
            alive = {t.number for t in (*self.tracks, *self.tracker.lost(moment))}
            remember = self.tracker.settings.remember_s
            self.evidence = {n: e for n, e in self.evidence.items() if n in alive or moment - e.latest <= remember}
            self.wants = {n: w for n, w in self.wants.items() if n in self.evidence}
