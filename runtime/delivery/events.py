"""Events as they go over the wire: JSON objects of a versioned schema (`event.schema.json`, docs/events.md).

The factory makes what happened; the journal adds the numbers (`boot`, `sequence`, `topic_sequence`, `id`).
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from personsearch.core.json_text import parse_event
from personsearch.core.redaction import redact
from personsearch.core.text import printable

if TYPE_CHECKING:  # clients load this, and need neither OpenCV nor NumPy's arrays of frames
    from personsearch.runtime.cameras.frames import Frame
    from personsearch.runtime.decisions.gallery import Gallery
    from personsearch.runtime.decisions.recognition import Match
    from personsearch.runtime.decisions.sighting import Evidence, SightingChange

SCHEMA_VERSION = 2
SIGHTING_VERSION = 3  # of sightings, described by sighting.schema.json
HEARTBEAT = b"heartbeat"
REVIEWED = "reviewed"  # the reason of a correction that an operator made of a visit that is over
STAMP = ("id", "boot", "sequence", "topic_sequence")  # what the journal adds
encode_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class EventFactory:
    """Makes the events of one box; `now` is always the wall clock in seconds when the event is made."""

    def __init__(self, box: str, model_hash: str = "", spell: Callable[[str], str] = str) -> None:
        """spell  what stands for a person's name in matches and candidates: the name itself, or an id"""
        self.box, self.model_hash, self.spell = box, model_hash, spell

    def _event(self, kind: str, now: float, version: int = SCHEMA_VERSION) -> dict[str, Any]:
        return {"schema_version": version, "type": kind, "box": self.box, "time": iso_time(now)}

    def _state(self, kind: str, now: float, state: str, reason: str, **more: Any) -> dict[str, Any]:
        """What is written for people passes here."""
        return {**self._event(kind, now), **more, "state": state, "reason": printable(redact(reason), keep="\n")}

    def match(self, match: Match, frame: Frame, now: float) -> dict[str, Any]:
        """The box of the person is given in pixels of the upright picture, before region and size were applied."""
        return self._named("match", match, frame, now)

    def candidate(self, match: Match, frame: Frame, now: float) -> dict[str, Any]:
        """A best guess below the threshold, for a person to review."""
        return self._named("candidate", match, frame, now)

    def _named(self, kind: str, match: Match, frame: Frame, now: float) -> dict[str, Any]:
        why = match.decision
        return {
            **self._event(kind, now),
            "camera": frame.camera,
            "frame": _frame(frame),
            "track": match.track.number,
            "person": self.spell(match.person),
            "similarity": round(why.similarity, 4),
            "threshold": round(why.threshold, 4),
            "log_likelihood_ratio": round(why.log_likelihood_ratio, 3),
            "runner_up": self.spell(why.runner_up) if why.runner_up else "",
            "margin": round(why.margin, 4) if why.runner_up else None,
            "views": why.views,
            "quality": round(why.quality, 3),
            "false_names_per_day": float(f"{why.false_names_per_day:.3g}"),
            "score": round(match.track.score, 4),
            "bounding_box": _box(frame.to_picture(np.asarray(match.track.box))),
            "model": self.model_hash,
        }

    def sighting(self, told: SightingChange, gallery: Gallery, now: float) -> dict[str, Any]:
        """No name stands in it: people have ids, which are resolved late."""
        sighting, best = told.sighting, told.sighting.best
        previous = {"previous": told.previous} if told.change == "corrected" else {}
        return {
            **self._event("sighting", now, SIGHTING_VERSION),
            "camera": told.camera,
            "sighting": sighting.id,
            "change": told.change,
            "reason": told.reason,
            "person": sighting.person_id,
            "stranger": sighting.pseudonym,
            **previous,
            "started": iso_time(sighting.started),
            "last_seen": iso_time(sighting.last_seen),
            "duration_s": round(sighting.duration_s, 3),
            "cameras": [
                {"camera": stay.camera, "from": iso_time(stay.started), "to": iso_time(stay.ended)}
                for stay in sighting.stays
            ],
            "zones": list(sighting.zones),
            "evidence": _evidence(best, gallery) if best is not None else None,
            "track": told.track,
            "bounding_box": None if told.box is None else _box(told.box),
            "frame": None if told.frame is None else _frame(told.frame),
            "model": self.model_hash,
        }

    def camera_state(self, camera: str, state: str, cause: str, reason: str, now: float) -> dict[str, Any]:
        return self._state("camera", now, state, reason, camera=camera, cause=cause)

    def engine_state(self, state: str, reason: str, failures: int, now: float) -> dict[str, Any]:
        return self._state("engine", now, state, reason, failures=failures)

    def settings_state(self, state: str, reason: str, now: float) -> dict[str, Any]:
        return self._state("settings", now, state, reason)

    def storage_state(self, state: str, reason: str, now: float) -> dict[str, Any]:
        return self._state("storage", now, state, reason)

    def gallery_state(self, state: str, person: str, camera: str, reason: str, now: float) -> dict[str, Any]:
        """person  an id; empty where nobody is meant"""
        return self._state("gallery", now, state, reason, person=person, source=camera)


def reviewed(event: dict[str, Any], person: str | None, now: float) -> dict[str, Any]:
    """The event that corrects a visit after its end, made of the latest one that was told of it.

    person  id of who it is, as an operator says; None for nobody who is enrolled
    """
    told = {key: value for key, value in event.items() if key not in STAMP}
    return told | {
        "time": iso_time(now), "change": "corrected", "reason": REVIEWED, "person": person,
        "stranger": event["stranger"] if person is None else None, "previous": event["person"],
        "evidence": None, "track": None, "bounding_box": None, "frame": None,
    }  # fmt: skip


def _frame(frame: Frame) -> dict[str, Any]:
    return {
        "index": frame.index,
        "time": iso_time(frame.wall),
        "monotonic": round(frame.monotonic, 6),
        "stream_s": frame.stream_s,
        "width": frame.picture_size[0],
        "height": frame.picture_size[1],
    }


def _box(box: np.ndarray) -> dict[str, float]:
    """(4,) xyxy -> corner and size, in tenths of a pixel."""
    x1, y1, x2, y2 = (round(float(v), 1) for v in box)
    return {"x": x1, "y": y1, "w": round(x2 - x1, 1), "h": round(y2 - y1, 1)}


def _evidence(best: Evidence, gallery: Gallery) -> dict[str, Any]:
    why = best.decision
    return {
        "similarity": round(why.similarity, 4),
        "threshold": round(why.threshold, 4),
        "log_likelihood_ratio": round(why.log_likelihood_ratio, 3),
        "runner_up": gallery.id_of(why.runner_up) if why.runner_up in gallery.people else None,
        "margin": round(why.margin, 4) if why.runner_up else None,
        "views": why.views,
        "quality": round(why.quality, 3),
        "false_names_per_day": float(f"{why.false_names_per_day:.3g}"),
        "camera": best.camera,
        "track": best.track,
    }


def read_event(body: bytes | str) -> dict[str, Any]:
    """An event or a heartbeat that came over the wire, as far as subscribers rely on it.

    Raises ValueError for anything else: the sender may be any program.
    """
    try:
        event = parse_event(body)
        beat = event["type"] == HEARTBEAT.decode()
        numbers = [event["sequence"], *(event["topics"].values() if beat else [event["topic_sequence"]])]
        texts = [event["type"], event["boot"], *((*event["topics"], event["replay"]) if beat else ())]
        times = [event["time"]]
        if event["type"] == "match":
            texts += [event["camera"], event["person"]]
            times.append(event["frame"]["time"])
            numbers += [event["track"], event["frame"]["index"]]
            sizes = [event["similarity"], event["threshold"], *(event["bounding_box"][side] for side in "xywh")]
            if not all(math.isfinite(size) for size in sizes):
                raise ValueError("not a number")
        if event["type"] == "sighting":
            texts += [event[key] for key in ("box", "camera", "sighting", "change", "reason")]
            texts += [text for text in (event["person"], event["stranger"], event.get("previous")) if text is not None]
            texts += [*(stay["camera"] for stay in event["cameras"]), *event["zones"]]
            times += [event["started"], event["last_seen"]]
            if not math.isfinite(event["duration_s"]) or not isinstance(event["evidence"], dict | None):
                raise ValueError("not a number, or no evidence")
        if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers) or not all(isinstance(t, str) for t in texts):
            raise ValueError("wrong kinds of values")
        for text in times:
            from_iso(text)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not an event of this project ({error})") from None
    return event


def iso_time(seconds: float) -> str:
    """UTC with milliseconds, for example 2026-01-31T12:00:00.123Z."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def from_iso(text: str) -> float:
    """Seconds since the epoch of an event's time. Raises ValueError for what is none, or is no time of a clock."""
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (OverflowError, OSError):
        raise ValueError(f"'{text[:40]}' is beyond the times that a clock can have") from None


def topic_of(event: dict[str, Any]) -> str:
    """`match.CAMERA` and `camera.CAMERA`, else the type alone: subscribers filter by prefix."""
    camera = event.get("camera")
    return f"{event['type']}.{camera}" if camera else str(event["type"])
