"""When to say a match: once, and again while it lasts."""

from __future__ import annotations

import numpy as np

from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.settings import MatchSettings


class Announcer:
    """Says a match once, and again every `repeat_s` while it lasts; a changed name is said at once."""

    def __init__(self, settings: MatchSettings) -> None:
        self.settings = settings
        self._said: dict[tuple[str, int], tuple[str, float]] = {}
        self._now: dict[str, float] = {}  # latest moment of each camera: each has a clock of its own

    def due(self, camera: str, match: Match, now: float) -> bool:
        """now  moment of the frame on the camera's own clock"""
        self._now[camera] = now
        key = (camera, match.track.number)
        person, when = self._said.get(key, ("", -np.inf))
        # (A clock that went back is that of a camera that was set up anew.)
        if person == match.person and 0 <= now - when < self.settings.repeat_s:
            return False
        self._said[key] = (match.person, now)
        return True

    def forget_older(self, seconds: float) -> None:
        self._said = {key: value for key, value in self._said.items() if value[1] >= self._now[key[0]] - seconds}
