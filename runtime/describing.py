"""Whom the engine describes next: people choose, main streams give better pictures where there are any, the engine
describes, and people learn what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.decisions.details import Details
from personsearch.runtime.decisions.people import MOST_AT_ONCE, People
from personsearch.runtime.decisions.recognition import Wanted
from personsearch.runtime.processes.inference import Inference

OVERDUE_S = 1.0  # whoever is known is described in front of frames that wait only if that is overdue for so long;
PATIENT_S = 0.3  # while none waits it comes sooner, and at once while the engine has time to spare:
CALM = 0.5  # while it is busy for less than this share of the time


class Describing:
    """One call of the engine at a time; nothing here blocks."""

    def __init__(self, people: People, inference: Inference) -> None:
        self.people, self.inference, self.details = people, inference, Details()
        self._asked: list[Wanted] = []  # whom the engine is describing

    def after(self, cameras: Sequence[Camera], looks: bool, now: float) -> bool:
        """Have people in these cameras described, of whom frames were analysed just now. Whether the frames are to wait
        for it: only those of a file that is read as fast as possible, which so gives the same on any machine.

        looks  at still scenes: no other frame waits for the engine"""
        lossless = any(camera.settings.lossless for camera in cameras)
        return self._choose(cameras, now, None if lossless else 0.0 if looks else OVERDUE_S) and lossless

    def meanwhile(self, cameras: Iterable[Camera], load: float, now: float) -> None:
        """While no frame waits for the engine, which is busy for this share of the time."""
        live = [camera for camera in cameras if not camera.settings.lossless]
        self._choose(live, now, 0.0 if load < CALM else PATIENT_S)

    def _choose(self, cameras: Sequence[Camera], now: float, overdue_s: float | None) -> bool:
        """`overdue_s` is that of `People.choose`. Whether the engine has begun."""
        wanted = self.people.choose([camera.name for camera in cameras], now, overdue_s)
        return self._begin(self.details.fetch(wanted), now)

    def go_on(self, now: float) -> None:
        """With those whose pictures have come from main streams, if the engine has nothing to do."""
        if self.inference.state == "given_up":
            self.details.take(MOST_AT_ONCE)  # nobody will describe them
        elif self.inference.idle and (ready := self.details.take(MOST_AT_ONCE)):
            self._begin(ready, now)

    def _begin(self, wanted: list[Wanted], now: float) -> bool:
        self._asked = wanted
        if wanted and self.inference.idle:
            self.inference.describe([(want.picture, want.box) for _, want in wanted], now)
        return bool(self.inference.describing)

    def learn(self, embeddings: np.ndarray) -> None:
        """embeddings  (N, D) of those who were asked for"""
        self.people.learn(self._asked, embeddings)
        self._asked = []

    def take_back(self) -> bool:
        """Whether an engine that died was describing somebody, who waits on."""
        if not self._asked or self.inference.describing:
            return False
        self.people.take_back(self._asked)
        self._asked = []
        return True
