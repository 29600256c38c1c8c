"""Is more asked for than the engine can do, and by how much? In words for the status line."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from personsearch.runtime.cameras.camera import Camera

WINDOW_S = 10.0
BUSY, TOO_MUCH = 0.8, 1.1  # share of the time that the engine is busy; frames that come for each that is analysed
OURS = ("newer", "stale", "no_slot")  # causes of drops that a faster engine would avoid


class Overload:
    """`factor` is how many times more frames come than are analysed over the last ten seconds, 1 while all are."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._share = 0.0  # frames a second that each camera gets
        self._past: deque[tuple[float, dict[str, tuple[int, int]], float]] = deque()

    def note(self, cameras: Sequence[Camera], busy_s: float, now: float) -> None:
        """Once a second.

        busy_s  seconds that the engine has been busy since the start"""
        counts = {c.name: (c.counters.analysed, sum(c.counters.dropped[cause] for cause in OURS)) for c in cameras}
        self._past.append((now, counts, busy_s))
        while len(self._past) > 2 and now - self._past[1][0] >= WINDOW_S:
            self._past.popleft()
        since, before, busy_before = self._past[0]
        # A camera that was removed and added anew counts from nothing.
        gains = [(new[0] - old[0], new[1] - old[1]) for n, new in counts.items() if (old := before.get(n)) is not None]
        gains = [(seen, left) for seen, left in gains if min(seen, left) >= 0 and seen + left]
        analysed, lost = sum(a for a, _ in gains), sum(x for _, x in gains)
        passed = now - since
        busy = passed > 0 and (busy_s - busy_before) / passed >= BUSY
        too_much = passed >= 0.5 * WINDOW_S and busy and analysed > 0 and lost >= (TOO_MUCH - 1) * analysed
        self.factor = (analysed + lost) / analysed if too_much else 1.0
        self._share = analysed / passed / len(gains) if too_much else 0.0

    def words(self) -> str:
        """Empty unless there is too much to do, else how much too much, what happens, and what to do."""
        if self.factor <= 1:
            return ""
        rate = f"max_fps: {self._share:.1f}, " if self._share >= 1 else ""
        return (
            f"overloaded by {self.factor:.1f}x: each busy camera gets {self._share:.1f} frames/s; set {rate}"
            "scheduling.motion: true, or use fewer cameras (personsearch-doctor says how many fit)"
        )
