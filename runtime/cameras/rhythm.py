"""When a camera's next frame in which something moves will be here, by how those before it came."""

from __future__ import annotations

import math

BREAK_S = 1.0  # frames farther apart than this have no rhythm
NEWEST = 0.2  # share of the latest distance


class Rhythm:
    """Of one camera. All times are seconds on the clock of `Frame.monotonic`."""

    def __init__(self) -> None:
        self._before, self._apart = -math.inf, 0.0

    @property
    def expected(self) -> float:
        """When the next one comes; inf while nothing moves."""
        return self._before + self._apart if self._apart else math.inf

    def note(self, moment: float, look: bool) -> None:
        """A frame has come; `look`: at a still scene, of which nothing follows soon."""
        apart, self._before = moment - self._before, -math.inf if look else moment
        if look or not 0 < apart <= BREAK_S:
            self._apart = 0.0
        else:
            self._apart = (1 - NEWEST) * self._apart + NEWEST * apart if self._apart else apart

    def due(self, now: float, within_s: float) -> bool:
        """Does the next one come in so many seconds? One that is long overdue does not come any more."""
        return now - self._apart < self.expected <= now + within_s
