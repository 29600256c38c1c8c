"""What a track has shown of a person, and when that is enough to decide.

Neighbouring frames repeat each other, and testing anew at each frame inflates false names: after a hundred looks at a
stranger one of them reaches any threshold. So a track is judged at fixed numbers of good views, and the error budget is
spent once: each look gets its share of the false match rate (alpha spending, as in group-sequential tests).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

LOOKS = (1, 2, 5, 10, 20)  # good views at which a track is judged
SHARES = (0.05, 0.15, 0.4, 0.25, 0.15)  # of the error budget, in that order: at first only who is very like
MOST_VIEWS = 12
State = Literal["not_yet", "unknown", "possible", "recognised"]


@dataclass(frozen=True, eq=False)
class View:
    """One description of a person: `embedding` (D,) as the model made it, quality 0 to 1, moment in stream seconds,
    `box` (4,) xyxy in pixels of the analysed image, where it is known."""

    embedding: np.ndarray
    quality: float
    moment: float
    box: np.ndarray | None = None


@dataclass(frozen=True)
class Decision:
    """What a look at a track came to. `person` is the best guess, empty if nobody is enrolled."""

    state: State
    person: str = ""
    similarity: float = -1.0
    log_likelihood_ratio: float = 0.0
    runner_up: str = ""
    margin: float = 0.0  # similarity above the runner-up's
    views: int = 0
    quality: float = 0.0  # mean of the views'
    false_names_per_day: float = 0.0  # of decisions as sure as this one, in this camera
    threshold: float = 1.0  # similarity that this look asked for


NOT_YET = Decision("not_yet")


@dataclass
class TrackEvidence:
    """The best views of one track and the latest decision about it."""

    views: list[View] = field(default_factory=list)
    described: int = 0  # views so far, also those that better ones replaced
    latest: float = -np.inf  # moment of the latest view
    looks: int = 0  # looks that were taken
    doubt: bool = False  # it may be somebody else since the latest view
    strange: list[View] = field(default_factory=list)  # views that look like another person, see recognition.py
    decision: Decision = NOT_YET

    def add(self, view: View) -> None:
        """Keep the view if it is among the best."""
        self.described += 1
        self.latest = max(self.latest, view.moment)
        self.views.append(view)
        if len(self.views) > MOST_VIEWS:
            self.views.remove(min(self.views, key=lambda v: v.quality))

    def join(self, other: TrackEvidence) -> None:
        """Take over what another track of the same person has shown."""
        for view in sorted(other.views, key=lambda v: v.moment):
            self.add(view)
        self.described += other.described - len(other.views)
        self.looks = max(self.looks, other.looks)
        if self.decision.state != "recognised" and other.decision.state == "recognised":
            self.decision = other.decision

    @property
    def vector(self) -> np.ndarray:
        """(D,) the mean of the views, L2-normalised: the track as a prototype."""
        mean = np.mean([v.embedding for v in self.views], axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)

    @property
    def quality(self) -> float:
        return float(np.mean([v.quality for v in self.views])) if self.views else 0.0

    def due(self) -> int | None:
        """The number of the look that is due now, or None."""
        reached = sum(self.described >= count for count in LOOKS)
        return reached - 1 if reached > self.looks else None


def share_of(look: int) -> float:
    """Of the error budget that a look may spend."""
    return SHARES[min(look, len(SHARES) - 1)]
