"""What is counted: people per camera, and durations as a histogram."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from personsearch.core.tracking.tracker import Track

BOUNDS_S = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


@dataclass
class CameraStatistics:
    people: int = 0  # sightings, summed over analysed frames
    tracks: int = 0  # people followed, once they are confirmed
    matches: int = 0  # events
    now: int = 0  # people in the latest frame
    _counted: set[int] = field(default_factory=set)  # tracks in view that were counted already

    def see(self, tracks: list[Track]) -> None:
        self.people += len(tracks)
        self.now = len(tracks)
        fresh = {t.number for t in tracks if t.confirmed} - self._counted
        self.tracks += len(fresh)
        self._counted |= fresh
        if len(self._counted) > 1000:  # tracks that old are long gone
            self._counted = set(sorted(self._counted)[-500:])


class Durations:
    """Counts of durations in buckets, as Prometheus wants them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s, self.worst_s = 0.0, 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds
        self.worst_s = max(self.worst_s, seconds)
