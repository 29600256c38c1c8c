"""Clocks of cameras: how long somebody was looked for and not seen, and who can have come from which camera."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.settings import StreamSettings

USUAL = 0.1  # share of a new interval in the usual one
LONGEST_LOOK_S = 1.0  # between two frames a camera looks so long, or three usual intervals; the rest it was blind
HELD_S = 60.0  # a file that gives no frame for so long holds up nobody
SEEN_AT_ONCE_S = 0.5  # seen in two cameras within this is seen in both


@dataclass
class Watch:
    """What is known of one camera's time.

    domain  `machine` for cameras on the machine's clock, `files` for those on their own; times of one domain compare
    looked  seconds that the camera has looked: time in which the engine was away, or no frame came, does not count
    """

    name: str
    domain: str = ""
    moment: float = -math.inf
    looked: float = 0.0
    interval: float = 0.0
    monotonic: float = 0.0  # of the latest frame
    gone: str = ""  # cause of the camera's being away
    over: bool = False  # and it will not come back
    gone_at: float = 0.0
    next_look: float = 0.0  # `looked` at which absences are looked into again

    def advance(self, frame: Frame) -> None:
        if not self.domain:
            self.domain = "machine" if frame.moment == frame.monotonic else "files"
        step = frame.moment - self.moment
        if 0 < step < math.inf:
            limit = max(LONGEST_LOOK_S, 3 * self.interval)
            self.looked += min(step, limit)
            self.interval = step if not self.interval else (1 - USUAL) * self.interval + USUAL * min(step, 2 * limit)
        self.moment, self.monotonic = frame.moment, frame.monotonic


@dataclass
class Neighbours:
    """Travel times from camera to camera, as configured: both ways, unless the other camera says something else."""

    grace_s: float
    times: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def of(settings: StreamSettings) -> Neighbours:
        found: dict[tuple[str, str], tuple[float, float]] = {}
        for camera in settings.cameras:
            found |= {(camera.name, other): seconds for other, seconds in camera.next_to.items()}
        return Neighbours(settings.sightings.grace_s, {(b, a): s for (a, b), s in found.items()} | found)

    def possible(self, source: str, target: str, gap_s: float) -> bool:
        """May somebody who was last seen in `source` be seen in `target` `gap_s` seconds later?"""
        times = self.times.get((source, target))
        if times is None:
            return abs(gap_s) <= self.grace_s  # nothing is said of them: near, or looking at one place
        return times[0] <= max(0.0, gap_s) + SEEN_AT_ONCE_S and gap_s <= times[1] + SEEN_AT_ONCE_S

    def wait_s(self, source: str) -> float:
        """How long after he was last seen in `source` somebody may still turn up elsewhere."""
        return max([self.grace_s, *(longest for (a, _), (_, longest) in self.times.items() if a == source)])


def clock_of(domain: str, watches: Mapping[str, Watch], now: float) -> float:
    """The moment that all cameras of a domain have reached: files are read at different speeds.

    now  monotonic seconds
    """
    if domain == "machine":
        return now
    waiting = [w.moment for w in watches.values() if w.domain == domain and not w.gone and now - w.monotonic < HELD_S]
    return min(waiting, default=math.inf)
