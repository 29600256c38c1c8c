"""The records of a sighting: one visit of one person, however often tracks break and whichever cameras see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.evidence import Decision

Change = Literal["started", "updated", "ended", "corrected"]


@dataclass(frozen=True, eq=False)
class SeenView:
    """One description of a person: `embedding` (D,) float32 as the model made it, not centred; quality 0 to 1; `box`
    (4,) float32 xyxy in pixels of the upright picture; `moment` as that of its frame."""

    embedding: np.ndarray
    quality: float
    box: np.ndarray
    moment: float = math.nan


def mean_view(views: Sequence[SeenView]) -> np.ndarray:
    """(D,) float32, L2-normalised and not centred: how a stay is kept. There has to be a view."""
    mean = np.mean([np.asarray(view.embedding, np.float32) for view in views], axis=0)
    described: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return described


@dataclass(eq=False)
class Stay:
    """A person's presence in one camera. Times are unix seconds on the sighting's own axis, see `Sighting`."""

    camera: str
    started: float
    ended: float  # last seen
    track: int  # the latest, if the track broke
    views: list[SeenView] = field(default_factory=list, repr=False)  # the best ones, the best first; at its end


@dataclass(frozen=True, eq=False)
class Evidence:
    """The surest decision for the name that a sighting has."""

    decision: Decision
    camera: str
    track: int
    box: np.ndarray  # (4,) xyxy, pixels of the upright picture, in the frame in which it was said


@dataclass(eq=False)
class Sighting:
    """One visit.

    person     name as enrolled; None for a stranger
    pseudonym  of a stranger, if strangers are told apart
    started, last_seen  unix seconds: the wall clock when the visit began, and from there on a clock that is never set,
               or a file's own times. So a wall clock that is put back makes no visit end before it began.
    zones      those that were entered, and lines that were crossed (NAME:in, NAME:out), the latest last
    """

    id: str
    person: str | None
    pseudonym: str | None
    started: float
    last_seen: float
    stays: list[Stay] = field(default_factory=list)
    best: Evidence | None = None
    zones: list[str] = field(default_factory=list)
    person_id: str | None = None  # the name's, when it was said: a name may be forgotten meanwhile

    @property
    def duration_s(self) -> float:
        return self.last_seen - self.started

    @property
    def cameras(self) -> list[str]:
        """In the order of the person's way; a camera that he came back to is there again."""
        return [stay.camera for stay in self.stays]


@dataclass(frozen=True, eq=False)
class SightingChange:
    """What listeners get, from the pipeline's thread; `sighting` is the one that goes on, so copy what is kept.

    reason    started: named, stranger. updated: named, camera, better, zone, line. corrected: other_name, doubt, track.
              ended: left, joined, forgotten, removed, hours, engine, stopped, limit, or the cause of a camera's state
    previous  id of the person who was said before, of `corrected`
    frame     the one that made the change; None if no frame did
    """

    sighting: Sighting
    change: Change
    reason: str
    camera: str
    frame: Frame | None = None
    track: int | None = None
    box: np.ndarray | None = None  # (4,) xyxy, pixels of the upright picture, of the track in the frame
    previous: str | None = None
