"""When a camera's next frame in which something moves will be here, by how those before it came."""

from __future__ import annotations

import math

BREAK_S = 1.0  # frames farther apart than this have no rhythm
NEWEST = 0.2  # share of the latest distance


class Rhythm:
    """`expected`: when the next one comes, seconds on the clock of `Frame.monotonic`; inf while nothing moves."""

    def __init__(self) -> None:
        self.expected = math.inf
        self._before, self._apart = -math.inf, 0.0

    def note(self, moment: float, look: bool) -> None:
        """A frame has come; `look`: at a still scene, of which nothing follows soon."""
        apart, self._before = moment - self._before, -math.inf if look else moment
        if look or not 0 < apart <= BREAK_S:
            self.expected, self._apart = math.inf, 0.0
            return
        self._apart = (1 - NEWEST) * self._apart + NEWEST * apart if self._apart else apart
        self.expected = moment + self._apart

    def due(self, now: float, within_s: float) -> bool:
        """Does the next one come in so many seconds? One that is long overdue does not come any more."""
        return now - self._apart < self.expected <= now + within_s
