"""Follow the people of one camera from frame to frame by motion alone; `reunite.py` says what looks add."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from personsearch.core.config import Settings
from personsearch.core.records import Detections
from personsearch.core.tracking import motion
from personsearch.core.tracking.association import affinity, ambiguous, assign, covered, inside

HIDDEN = 0.5  # whoever was covered by more than this may be somebody else when he comes out
MOST_SURE = 0.8  # no detector must be surer of a person than this
GAP_S = 1.0  # so may whoever was not looked at for so long
WATCH_EVERY_S = 0.5  # people who do not move, and thrice before a track counts as lost
SETTLED_S = 2.0  # so long has somebody been followed of whom the next frame is expected to bring nothing new
PART = 0.6  # a box with more than this share of itself in a tracked person's box is a part of that person


class TrackingSettings(Settings):
    """Explained in configs/cams.yaml."""

    former: ClassVar[Mapping[str, str]] = {
        "min_iou": "people are followed by 'buffer' and 'min_overlap' now; leave it out",
        "min_similarity": "lost people are found again by 'describe.reunite_similarity'; leave it out",
    }
    low_score: float = Field(0.15, ge=0, le=1)
    sure_ratio: float = Field(2.0, ge=1)
    min_sightings: int = Field(3, ge=1)
    buffer: float = Field(0.7, ge=0, le=2)
    min_overlap: float = Field(0.2, gt=0, le=1)
    low_overlap: float = Field(0.5, gt=0, le=1)
    doubt_margin: float = Field(0.3, ge=0, le=1)
    lost_after_s: float = Field(1.5, gt=0)
    remember_s: float = Field(20.0, gt=0)


@dataclass(frozen=True)
class Doubt:
    """A track before the first of the sightings in a row that may be of somebody else."""

    at: float  # of that sighting
    box: np.ndarray  # (4,), like all that follows, of the sighting before
    last_seen: float
    sightings: int


@dataclass(eq=False)
class Track:
    """A person followed in one camera. Times are seconds of the camera's own clock."""

    number: int
    box: np.ndarray  # (4,) float32 xyxy, the latest that was measured
    score: float
    first_seen: float
    last_seen: float
    row: int  # which of the frame's detections this sighting is
    state: np.ndarray = field(repr=False)  # (5, 4), see motion.py
    sightings: int = 1
    best_score: float = 0.0
    confirmed: bool = False  # seen often enough, and well enough once, to be a person
    low: bool = False  # this sighting's score lies below the working point
    covered: float = 0.0  # share of the box that people in front of it cover
    doubt: bool = False  # this sighting may be of somebody else: see `Tracker.update`
    latest_doubt: Doubt | None = None
    ended: bool = False  # split off: only looks can find this person again

    def predicted(self, now: float) -> np.ndarray:
        """(4,) xyxy where the box should be at `now`."""
        return motion.boxes_of(motion.predict(self.state[None], np.array([now - self.last_seen])))[0]


class Tracker:
    """Tracks of one camera. The same detections at the same times give the same tracks."""

    def __init__(self, settings: TrackingSettings, start_score: float = 0.3) -> None:
        """start_score  the detector's working point: only boxes with this score start tracks"""
        self.settings, self.start_score = settings, start_score
        self._tracks: list[Track] = []  # seen within the last `remember_s` seconds
        self._latest: list[Track] = []  # those in the latest frame
        self._next, self._now = 1, -np.inf

    def update(self, detections: Detections, now: float) -> list[Track]:
        """Assign one frame's detections, seen at `now` seconds. Returns the tracks seen in this frame, by number.

        First the boxes above the working point to all tracks, then those below it to the tracks that were seen in the
        frame before; what is left above it starts tracks. `doubt` is set where another track or detection fitted
        nearly as well, and where a person is found again after a gap or after having been mostly covered. A clock that
        goes back (a file from its start) ends all tracks.
        """
        if now < self._now:
            self._tracks, self._latest = [], []
        before, self._now = self._now, now
        options, scores, boxes = self.settings, detections.scores, detections.boxes.astype(np.float64)
        self._tracks = [t for t in self._tracks if now - t.last_seen <= options.remember_s]
        # One sighting is no motion yet: it is gone if the next frame does not show it again.
        alive = [
            t
            for t in self._tracks
            if now - t.last_seen <= options.lost_after_s and not t.ended and (t in self._latest or t.sightings > 1)
        ]
        states = np.array([t.state for t in alive]).reshape(-1, 5, 4)
        states = motion.predict(states, np.array([now - t.last_seen for t in alive]))
        value = affinity(motion.boxes_of(states), boxes, options.buffer)

        high = np.flatnonzero(scores >= self.start_score)
        low = np.flatnonzero((scores >= options.low_score) & (scores < self.start_score))
        pairs = _pairs(value, np.arange(len(alive)), high, options.min_overlap)
        taken = {row for row, _ in pairs}
        waiting = [i for i, t in enumerate(alive) if i not in taken and t in self._latest]
        pairs = sorted(pairs + _pairs(value, np.array(waiting, int), low, options.low_overlap))
        rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
        corrected = motion.correct(states[rows], boxes[columns])
        for pair, state, unclear in zip(pairs, corrected, ambiguous(value, pairs, options.doubt_margin), strict=True):
            track = alive[pair[0]]
            found_again = track not in self._latest or now - before > GAP_S or track.covered > HIDDEN
            if (unclear or found_again) and not track.doubt:
                track.latest_doubt = Doubt(now, track.box, track.last_seen, track.sightings)
            track.doubt = unclear or found_again
            track.state, track.last_seen, track.row = state, now, pair[1]
            track.sightings += 1

        left = np.setdiff1d(high, columns)
        left = left[inside(boxes[left], boxes[columns]) <= PART]
        seen = [alive[row] for row in rows]
        for row, state in zip(left, motion.begin(boxes[left]), strict=True):
            seen.append(self._begin(state, int(row), now))
        for track, share in zip(seen, covered(boxes[[t.row for t in seen]]), strict=True):
            track.box, track.score = detections.boxes[track.row], float(scores[track.row])
            track.low, track.covered = track.score < self.start_score, float(share)
            self._judge(track)
        self._latest = sorted(seen, key=lambda t: t.number)
        return list(self._latest)

    def lost(self, now: float) -> list[Track]:
        """Confirmed tracks that are not in the latest frame and were seen within `remember_s` seconds before `now`,
        the latest first: people who may come back."""
        missing = [
            t
            for t in self._tracks
            if t.confirmed and t not in self._latest and now - t.last_seen <= self.settings.remember_s
        ]
        return sorted(missing, key=lambda t: (-t.last_seen, t.number))

    @property
    def following(self) -> bool:
        """Was anybody, confirmed or not, seen so lately that motion could find them again?"""
        return bool(self._followed)

    @property
    def settled(self) -> bool:
        """Was everybody who is followed seen in the latest frame, and for some time by then? While nothing moves, they
        are where they were."""
        return all(t in self._latest and self._now - t.first_seen >= SETTLED_S for t in self._followed)

    @property
    def watch_every_s(self) -> float:
        """How often the camera is to be analysed though nothing moves in it: inf with nobody to be followed, 0 (every
        frame) as long as somebody has just come, or was not seen in the latest frame."""
        if not self.following:
            return math.inf
        return min(WATCH_EVERY_S, self.settings.lost_after_s / 3) if self.settled else 0.0

    @property
    def _followed(self) -> list[Track]:
        return [t for t in self._tracks if self._now - t.last_seen <= self.settings.lost_after_s]

    def rejoin(self, track: Track, earlier: Track) -> Track:
        """`track` is the person of `earlier`, one of `lost`: `earlier` goes on with the motion and sightings of both,
        and `track` is gone. Raises ValueError if one of them is not followed any more, or both were seen at once."""
        if track is earlier or track not in self._tracks or earlier not in self._tracks:
            raise ValueError(f"tracks {track.number} and {earlier.number} must be two that are still remembered")
        if earlier.last_seen >= track.first_seen:
            raise ValueError(f"tracks {track.number} and {earlier.number} were seen at the same time")
        for name in ("box", "score", "last_seen", "row", "state", "low", "covered", "doubt"):
            setattr(earlier, name, getattr(track, name))
        if track.latest_doubt is not None:
            sightings = earlier.sightings + track.latest_doubt.sightings
            earlier.latest_doubt = replace(track.latest_doubt, sightings=sightings)
        earlier.sightings, earlier.ended = earlier.sightings + track.sightings, False
        earlier.best_score = max(earlier.best_score, track.best_score)
        self._judge(earlier)
        self._tracks.remove(track)
        self._latest = [earlier if t is track else t for t in self._latest]
        return earlier

    def split(self, track: Track) -> Track:
        """`track` has moved onto another person, who goes on under a new number, as the track that is returned, with
        the sightings since the latest doubt (or the latest one). `track` ends before and becomes one of `lost`. Raises
        ValueError for a track that is not followed any more."""
        if track not in self._tracks:
            raise ValueError(f"track {track.number} must be one that is still remembered")
        doubt = track.latest_doubt or Doubt(track.last_seen, track.box, track.last_seen, track.sightings - 1)
        other = replace(
            track,
            number=self._next,
            first_seen=doubt.at,
            sightings=track.sightings - doubt.sightings,
            latest_doubt=None,
        )
        other.confirmed = other.sightings >= self.settings.min_sightings and track.confirmed
        self._next += 1
        self._tracks.append(other)
        self._latest = [other if t is track else t for t in self._latest]
        track.box, track.last_seen, track.sightings = doubt.box, doubt.last_seen, doubt.sightings
        track.latest_doubt, track.ended = None, True
        return other

    def _begin(self, state: np.ndarray, row: int, now: float) -> Track:
        track = Track(self._next, np.zeros(4, np.float32), 0.0, now, now, row, state)
        self._next += 1
        self._tracks.append(track)
        return track

    def _judge(self, track: Track) -> None:
        track.best_score = max(track.best_score, track.score)
        enough = track.sightings >= self.settings.min_sightings
        sure = min(self.settings.sure_ratio * self.start_score, MOST_SURE)
        track.confirmed = track.confirmed or (enough and track.best_score >= sure)


def _pairs(value: np.ndarray, rows: np.ndarray, columns: np.ndarray, least: float) -> list[tuple[int, int]]:
    """The best assignment among some rows and columns of `value`."""
    pairs = assign(value[np.ix_(rows, columns)], least)
    return [(int(rows[row]), int(columns[column])) for row, column in pairs]
