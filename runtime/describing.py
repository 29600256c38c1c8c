"""Whom the engine describes next: people choose, main streams give better pictures where there are any, the engine
describes, and people learn what came of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from personsearch.runtime.decisions.details import Details
from personsearch.runtime.decisions.people import MOST_AT_ONCE, People
from personsearch.runtime.decisions.recognition import Wanted
from personsearch.runtime.processes.inference import Inference


class Describing:
    """One call of the engine at a time; nothing here blocks."""

    def __init__(self, people: People, inference: Inference) -> None:
        self.people, self.inference, self.details = people, inference, Details()
        self._asked: list[Wanted] = []  # whom the engine is describing

    def choose(self, cameras: Iterable[str], now: float, hurry: bool) -> bool:
        """Have people in these cameras described, if anybody should be; `hurry` is that of `People.choose`. Whether
        the engine has begun."""
        return self._begin(self.details.fetch(self.people.choose(cameras, now, hurry)), now)

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
