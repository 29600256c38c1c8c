"""Follow people of one camera from frame to frame by overlap and looks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from personsearch.core.boxes import iou
from personsearch.core.config import Settings
from personsearch.core.records import Detections


class TrackingSettings(Settings):
    min_iou: float = Field(0.25, ge=0, le=1)
    min_similarity: float = Field(0.5, ge=-1, le=1)
    lost_after_s: float = Field(1.5, gt=0)
    min_sightings: int = Field(3, ge=1)


MEMORY = 0.9  # weight of the past in a track's mean embedding once it is established


@dataclass
class Track:
    """A person followed in one camera."""

    number: int
    box: np.ndarray  # (4,) xyxy, latest
    score: float
    embedding: np.ndarray  # (D,) L2-normalised mean of what was seen
    last_seen: float  # seconds, monotonic
    first_seen: float
    sightings: int = 1
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))  # box centre, pixels per second

    def predicted(self, now: float) -> np.ndarray:
        shift = self.velocity * min(now - self.last_seen, 0.5)
        return self.box + np.tile(shift, 2)

    def see(self, box: np.ndarray, score: float, embedding: np.ndarray, now: float) -> None:
        elapsed = max(now - self.last_seen, 1e-3)
        moved = ((box[:2] + box[2:]) - (self.box[:2] + self.box[2:])) / 2 / elapsed
        self.velocity = 0.6 * self.velocity + 0.4 * moved
        past = min(MEMORY, self.sightings / (self.sightings + 1))
        mean = past * self.embedding + (1 - past) * embedding
        self.embedding = mean / max(float(np.linalg.norm(mean)), 1e-9)
        self.box, self.score, self.last_seen = box, score, now
        self.sightings += 1


class Tracker:
    """Greedy assignment by overlap with the predicted box plus similarity; a lost person may be picked up again
    anywhere in the frame for `lost_after_s` if the looks agree."""

    def __init__(self, settings: TrackingSettings) -> None:
        self.settings, self.tracks, self._next = settings, [], 1  # type: TrackingSettings, list[Track], int

    def update(self, detections: Detections, now: float) -> list[Track]:
        """Assign one frame's detections. Returns the tracks seen in this frame, in the order of the detections."""
        options = self.settings
        self.tracks = [t for t in self.tracks if now - t.last_seen <= options.lost_after_s]
        assigned: dict[int, Track] = {}
        if len(detections) and self.tracks:
            overlap = iou(detections.boxes, np.array([t.predicted(now) for t in self.tracks]))
            looks = detections.embeddings @ np.array([t.embedding for t in self.tracks]).T
            value = overlap + 0.5 * looks
            near = (overlap >= options.min_iou) & (looks >= options.min_similarity - 0.4)
            again = looks >= options.min_similarity + 0.2  # no overlap: the looks must speak for themselves
            value = np.where(near, value + 1.0, np.where(again, value, -np.inf))
            taken: set[int] = set()
            for flat in np.argsort(-value, axis=None, kind="stable"):
                row, column = divmod(int(flat), len(self.tracks))
                if not np.isfinite(value[row, column]):
                    break
                if row not in assigned and column not in taken:
                    assigned[row] = self.tracks[column]
                    taken.add(column)
        seen = []
        for row in range(len(detections)):
            box, score, embedding = detections.boxes[row], float(detections.scores[row]), detections.embeddings[row]
            track = assigned.get(row)
            if track is None:
                track = Track(self._next, box, score, embedding, now, now)
                self._next += 1
                self.tracks.append(track)
            else:
                track.see(box, score, embedding, now)
            seen.append(track)
        return seen
