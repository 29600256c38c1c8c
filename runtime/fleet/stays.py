"""Stays as events for the centre's search by looks: who was in a camera's sight, with a sealed description.

The body is JSON like every event's; `sealed` holds, encrypted with the group's key, the stay's mean view and the mean
of the camera's people, both (D,) float16. So neither journal nor hub nor subscribers can read what somebody looks like.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.decisions.sighting import Sighting, Stay, mean_view
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.fleet.sealing import GroupKey

STAY_VERSION = 4
MAX_DIMENSIONS = 4000  # what the centre's index takes


class StayTeller:
    """Listens to stays that end; used from the pipeline's thread. A camera with `history: false` is left out."""

    def __init__(
        self, box: str, model: str, key: GroupKey, offset: Callable[[str], np.ndarray | None],
        keeps: Callable[[str], bool], publish: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        """offset  the mean of a camera's people (D,), None for one that is not known
        keeps   whether stays in a camera that gives frames may be told of"""
        self.box, self.model, self.key = box, model, key
        self._offset, self._keeps, self._publish = offset, keeps, publish
        self._allowed: set[str] = set()

    def look(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        """Of each analysed frame, so while its camera exists: may its stays be told of?"""
        (self._allowed.add if self._keeps(frame.camera) else self._allowed.discard)(frame.camera)

    def tell(self, sighting: Sighting, stay: Stay) -> None:
        if stay.camera in self._allowed and stay.views:
            self._publish(self.event(sighting, stay))

    def event(self, sighting: Sighting, stay: Stay) -> dict[str, Any]:
        mean = mean_view(stay.views)
        offset = self._offset(stay.camera)
        row = StayRow(mean, np.zeros_like(mean) if offset is None else offset)
        best = max(stay.views, key=lambda view: view.quality)
        event = {
            "schema_version": STAY_VERSION, "type": "stay", "box": self.box, "time": iso_time(time.time()),
            "camera": stay.camera, "sighting": sighting.id, "person": sighting.person_id,
            "stranger": sighting.pseudonym, "started": iso_time(stay.started), "ended": iso_time(stay.ended),
            "track": stay.track, "views": len(stay.views), "quality": round(float(best.quality), 3),
            "model": self.model, "dimensions": len(mean),
        }  # fmt: skip
        event["sealed"] = base64.b64encode(self.key.seal(row.packed(), _bound(event))).decode()
        return event


@dataclass(frozen=True, eq=False)
class StayRow:
    """view    (D,) the stay's mean view, L2-normalised, as the model made it
    offset  (D,) the mean of the camera's people at that time"""

    view: np.ndarray
    offset: np.ndarray

    def packed(self) -> bytes:
        return np.stack([self.view, self.offset]).astype("<f2").tobytes()


def opened(event: dict[str, Any], key: GroupKey) -> StayRow:
    """What a stay's event holds sealed, as float32. Raises ValueError for anything that is none."""
    try:
        dimensions = int(event["dimensions"])
        data = key.unseal(base64.b64decode(event["sealed"], validate=True), _bound(event))
        rows = np.frombuffer(data, "<f2").reshape(2, dimensions).astype(np.float32)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a stay ({error})") from None
    if not 0 < dimensions <= MAX_DIMENSIONS or not np.isfinite(rows).all():
        raise ValueError("expected finite numbers")
    return StayRow(rows[0], rows[1])


def _bound(event: dict[str, Any]) -> str:
    return "stay " + " ".join(str(event[key]) for key in ("box", "camera", "sighting", "model", "started"))
