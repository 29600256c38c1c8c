"""Events as they go over the wire: JSON objects of a versioned schema (`runtime/event.schema.json`, docs/events.md).

The factory makes what happened; the journal adds the numbers (`boot`, `sequence`, `topic_sequence`, `id`).
"""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np

from personsearch.runtime.frames import Frame
from personsearch.runtime.matching import Match

SCHEMA_VERSION = 2
HEARTBEAT = b"heartbeat"
encode_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class EventFactory:
    """Makes the events of one box; `now` is always the wall clock in seconds when the event is made."""

    def __init__(self, box: str, model_hash: str = "") -> None:
        self.box, self.model_hash = box, model_hash

    def _event(self, kind: str, now: float) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "type": kind, "box": self.box, "time": iso_time(now)}

    def match(self, match: Match, frame: Frame, threshold: float, now: float) -> dict[str, Any]:
        """The box of the person is given in pixels of the upright picture, before region and size were applied."""
        x1, y1, x2, y2 = (round(float(v), 1) for v in frame.to_picture(np.asarray(match.track.box)))
        return {
            **self._event("match", now),
            "camera": frame.camera,
            "frame": {
                "index": frame.index,
                "time": iso_time(frame.wall),
                "monotonic": round(frame.monotonic, 6),
                "stream_s": frame.stream_s,
                "width": frame.picture_size[0],
                "height": frame.picture_size[1],
            },
            "track": match.track.number,
            "person": match.person,
            "similarity": round(match.similarity, 4),
            "threshold": round(threshold, 4),
            "score": round(match.track.score, 4),
            "bounding_box": {"x": x1, "y": y1, "w": round(x2 - x1, 1), "h": round(y2 - y1, 1)},
            "model": self.model_hash,
        }

    def camera_state(self, camera: str, state: str, cause: str, reason: str, now: float) -> dict[str, Any]:
        return {**self._event("camera", now), "camera": camera, "state": state, "cause": cause, "reason": reason}

    def engine_state(self, state: str, reason: str, failures: int, now: float) -> dict[str, Any]:
        return {**self._event("engine", now), "state": state, "reason": reason, "failures": failures}

    def settings_state(self, state: str, reason: str, now: float) -> dict[str, Any]:
        return {**self._event("settings", now), "state": state, "reason": reason}

    def storage_state(self, state: str, reason: str, now: float) -> dict[str, Any]:
        return {**self._event("storage", now), "state": state, "reason": reason}


def iso_time(seconds: float) -> str:
    """UTC with milliseconds, for example 2026-01-31T12:00:00.123Z."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def from_iso(text: str) -> float:
    """Seconds since the epoch of an event's time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def topic_of(event: dict[str, Any]) -> str:
    """`match.CAMERA` and `camera.CAMERA`, else the type alone: subscribers filter by prefix."""
    camera = event.get("camera")
    return f"{event['type']}.{camera}" if camera else str(event["type"])
