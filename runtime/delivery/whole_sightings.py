"""Visits put together again from their events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from personsearch.runtime.delivery.events import REVIEWED, from_iso

MOST = 50_000  # visits under way that are kept; of more, the one that began first is given as it is


@dataclass
class WholeSighting:
    """One visit, from what was said of it.

    person, name  id and name of the person enrolled; None for a stranger, and where a name was taken back
    end           reason of its end; `restart` if the box started anew without having said it, `limit` where too many
                  visits were under way; `reviewed` if an operator corrected it later: it was given before, and is given
                  once more as it is now
    corrected     ids of people who were said before, and were not it
    events        all that was said, in order
    """

    sighting: str
    box: str
    person: str | None = None
    name: str | None = None
    stranger: str | None = None
    started: float = 0.0  # unix seconds
    last_seen: float = 0.0
    duration_s: float = 0.0
    cameras: list[dict[str, str]] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    evidence: dict[str, Any] | None = None
    corrected: list[str] = field(default_factory=list)
    end: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.person, self.stranger = event["person"], event["stranger"]
        self.started, self.last_seen = from_iso(event["started"]), from_iso(event["last_seen"])
        self.duration_s, self.cameras, self.zones = event["duration_s"], event["cameras"], event["zones"]
        self.evidence = event["evidence"]
        if event["change"] == "corrected" and event.get("previous") and event["reason"] != "track":
            self.corrected.append(event["previous"])
        if event["change"] == "ended":
            self.end = event["reason"]
        elif event["reason"] == REVIEWED:
            self.end = REVIEWED


class Visits:
    """Takes events in their order, gives visits when they are over. Those whose beginning was missed count as well."""

    def __init__(self) -> None:
        self._open: dict[str, WholeSighting] = {}
        self._boots: dict[str, str] = {}  # of each box

    def add(self, event: dict[str, Any]) -> Iterator[WholeSighting]:
        box, boot = event["box"], event["boot"]
        if self._boots.setdefault(box, boot) != boot:
            self._boots[box] = boot
            for visit in [v for v in self._open.values() if v.box == box]:
                yield self._over(visit, "restart")
        if event["type"] != "sighting":
            return
        visit = self._open.setdefault(event["sighting"], WholeSighting(event["sighting"], box))
        visit.add(event)
        if visit.end:
            yield self._over(visit, visit.end)
        elif len(self._open) > MOST:
            yield self._over(next(iter(self._open.values())), "limit")

    def _over(self, visit: WholeSighting, end: str) -> WholeSighting:
        del self._open[visit.sighting]
        visit.end = end
        return visit
