"""Events as they go over the wire: JSON objects of a versioned schema (`runtime/event.schema.json`, docs/events.md)."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

from personsearch.runtime.capture import Frame
from personsearch.runtime.matching import Match

SCHEMA_VERSION = 1


class EventFactory:
    """Numbers and stamps the events of one process. Sequence numbers start at 1 with each `boot`."""

    def __init__(self, box: str, model_hash: str) -> None:
        self.box, self.model_hash = box, model_hash
        self.boot = uuid.uuid4().hex
        self.sequence = 0

    def _event(self, kind: str, camera: str, wall: float) -> dict[str, Any]:
        self.sequence += 1
        return {
            "schema_version": SCHEMA_VERSION,
            "type": kind,
            "id": f"{self.boot}-{self.sequence}",
            "box": self.box,
            "boot": self.boot,
            "sequence": self.sequence,
            "time": iso_time(wall),
            "camera": camera,
        }

    def match(self, match: Match, frame: Frame, threshold: float, now: float) -> dict[str, Any]:
        """now: wall clock in seconds when the event is made; the frame has its own, earlier time."""
        x1, y1, x2, y2 = (float(v) for v in match.track.box)
        return {
            **self._event("match", frame.camera, now),
            "frame": {"index": frame.index, "time": iso_time(frame.wall), "monotonic": round(frame.monotonic, 6)},
            "track": match.track.number,
            "person": match.person,
            "similarity": round(match.similarity, 4),
            "threshold": round(threshold, 4),
            "score": round(match.track.score, 4),
            "bounding_box": {"x": round(x1, 1), "y": round(y1, 1), "w": round(x2 - x1, 1), "h": round(y2 - y1, 1)},
            "model": self.model_hash,
        }

    def camera_state(self, camera: str, state: str, reason: str, now: float) -> dict[str, Any]:
        return {**self._event("camera", camera, now), "state": state, "reason": reason}


def iso_time(seconds: float) -> str:
    """UTC with milliseconds, for example 2026-01-31T12:00:00.123Z."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def topic_of(event: dict[str, Any]) -> bytes:
    """`match.CAMERA` or `camera.CAMERA`: subscribers filter by prefix."""
    return f"{event['type']}.{event['camera']}".encode()


def encode(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
