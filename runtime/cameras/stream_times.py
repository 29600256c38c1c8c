"""When the pictures of a network stream were taken, by two clocks that its camera's other streams share.

`camera`: the camera's own clock, of which RTCP's sender reports tell (FFmpeg hands it on with each packet, from a few
seconds after the start on). `arrival`: this machine's monotonic clock when the packet came, as if it had come as
quickly as the quickest of the last seconds, so that bursts and large keyframes do not count. How long these take is
not known.
"""

from __future__ import annotations

import math
import struct
from typing import Any

WINDOW_S = 10.0  # the quickest packet of this window or of the one before
_WALL_CLOCK = struct.Struct("<q")  # AVProducerReferenceTime begins with microseconds since the epoch


class StreamTimes:
    """Of one stream. `see` each packet; then `offsets` are what has to be added to presentation times."""

    def __init__(self) -> None:
        self._camera: float | None = None
        self._quickest = self._before = math.inf
        self._window_end = -math.inf

    def see(self, packet: Any, arrived: float) -> None:
        """packet   of PyAV
        arrived  seconds on the monotonic clock"""
        if packet.pts is None:
            return
        seconds = float(packet.pts * packet.time_base)
        if packet.has_sidedata("prft"):
            self._camera = _WALL_CLOCK.unpack_from(bytes(packet.get_sidedata("prft")))[0] / 1e6 - seconds
        if arrived >= self._window_end:
            self._before, self._quickest, self._window_end = self._quickest, math.inf, arrived + WINDOW_S
        self._quickest = min(self._quickest, arrived - seconds)

    def offsets(self) -> dict[str, float]:
        """Seconds to add to a presentation time, by clock; clocks of which nothing is known yet are missing."""
        found = {} if self._camera is None else {"camera": self._camera}
        quickest = min(self._quickest, self._before)
        return found | ({"arrival": quickest} if math.isfinite(quickest) else {})
