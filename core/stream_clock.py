"""The time within a file, as its frames' presentation times tell it: the same on any machine and at any pace."""

from __future__ import annotations

LONGEST_GAP_S = 3600.0  # a jump beyond this is damage, not a pause in a recording


class StreamClock:
    """Seconds that strictly grow, over jumps of the container's own times, over loops and over reopenings."""

    def __init__(self, interval_s: float, after: float | None = None) -> None:
        """interval_s  nominal time from frame to frame, for where the container tells none
        after       moment of the last frame before this opening; None at the very beginning"""
        self.interval_s, self.moment = interval_s, after
        self._shift: float | None = None  # what is added to the container's times; None before the first
        self._before = 0.0  # the container's time of the latest frame

    def reopen(self, interval_s: float) -> None:
        """The container's times begin anew."""
        self.interval_s, self._shift = interval_s, None

    def advance(self, stream_s: float | None) -> float:
        """The moment of the next frame.

        stream_s  its presentation time; None, or the same for each frame, if the container has none
        """
        nominal = 0.0 if self.moment is None else self.moment + self.interval_s
        if stream_s is None or (stream_s <= 0 and self._shift is not None):  # OpenCV says 0 for no time
            self.moment = nominal
            return nominal
        step = stream_s - self._before
        if self.moment is None and 0 <= stream_s <= LONGEST_GAP_S:
            self._shift = 0.0
        elif self._shift is None or not 0 < step <= max(LONGEST_GAP_S, 10 * self.interval_s):
            self._shift = nominal - stream_s
        moment = self._shift + stream_s
        self.moment = moment if self.moment is None else max(moment, self.moment + 1e-6)
        self._before = stream_s
        return self.moment
