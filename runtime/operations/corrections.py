"""What operators say of a visit's name after it was told: an event that takes the name back, or gives the right one.

a visit that has ended  -> its latest event, from the journal, is told anew as `corrected`, reason `reviewed`
one that goes on        -> the stream corrects it by what it sees; what is still wrong when it ends is told then
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.runtime.decisions.person import ID
from personsearch.runtime.decisions.sighting import SightingChange
from personsearch.runtime.delivery.events import reviewed
from personsearch.runtime.delivery.journal import latest_of_sighting
from personsearch.runtime.pipeline import Pipeline

SIGHTING = re.compile(r"s-[0-9a-f]{16}")
REMEMBERED = 100  # corrections that the journal may not have yet


class Corrections:
    """`correct` runs in the control socket's thread, the rest in the pipeline's. `listeners` hear of each event that
    was told, from either."""

    def __init__(self, pipeline: Pipeline, journal: Path) -> None:
        self.pipeline, self.journal = pipeline, journal
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._under_way: set[str] = set()  # visits that were told of and have not ended
        self._later: dict[str, tuple[str | None, str | None]] = {}  # of those: who was said, and who it is
        self._told: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        pipeline.sightings.listeners.append(self._hear)

    def correct(self, sighting: str, was: str | None, person: str | None) -> str:
        """A visit that was said to be `was` is `person`'s; both are ids, None for nobody. Taking it back is the same
        the other way round.

        Gives `told`; `later` for a visit that goes on: the stream takes the name back itself, or this is told at its
        end; `unchanged` if the visit is said to be somebody else's than `was`, or one of both was forgotten. Raises
        UserError for a visit that the journal does not keep, ValueError for what is no id.
        """
        if not SIGHTING.fullmatch(sighting) or not all(p is None or ID.fullmatch(p) for p in (was, person)):
            raise ValueError("expected the ids of a sighting and of people")
        with self._lock:
            if sighting in self._under_way:
                if self._later.pop(sighting, None) != (person, was):
                    self._later[sighting] = was, person
                return "later"
        event = self._told.get(sighting) or latest_of_sighting(self.journal, sighting)
        if event is None:
            raise UserError("the journal does not keep this visit any more, so its name stays as it was told")
        return "told" if self._tell(event, was, person) else "unchanged"

    def _hear(self, told: SightingChange) -> None:
        """A listener to sightings, after the one that makes events of them."""
        number = told.sighting.id
        with self._lock:
            if told.change != "ended":
                self._under_way.add(number)
                return
            self._under_way.discard(number)
            later = self._later.pop(number, None)
        if later is not None:
            self._tell(self.pipeline.events.sighting(told, self.pipeline.people.gallery, time.time()), *later)

    def _tell(self, event: dict[str, Any], was: str | None, person: str | None) -> bool:
        """False if there is nothing to tell."""
        if event["person"] != was or was == person or {was, person} & set(self.pipeline.people.gallery.forgotten):
            return False
        corrected = reviewed(event, person, time.time())
        self._told[event["sighting"]] = corrected
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self.pipeline.publish(corrected)
        for listener in self.listeners:
            listener(corrected)
        return True
