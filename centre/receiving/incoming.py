"""An event as the hub gave it, checked: the sender may be any program that the hub lets in."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.runtime.decisions.centring import centred
from personsearch.runtime.delivery.events import read_event
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.sink import plain
from personsearch.runtime.fleet.stays import opened

KINDS = ("sighting", "stay", "camera", "engine", "storage", "settings")
MODEL, BOOT = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}")
PERSON = re.compile(r"p-[0-9a-f]{12}")
SIGHTING = re.compile(r"s-[0-9a-f]{16}")
CAMERA = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Refused(ValueError):
    """Why an event is not taken: `cause` in a word, for counters, and in a sentence."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, eq=False)
class Described:
    """What a stay looked like: `vector` (D,) float32 centred and L2-normalised, `mean` (D,) of its camera's people."""

    vector: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, eq=False)
class Incoming:
    kind: str
    box: str
    boot: str
    sequence: int
    time: datetime.datetime  # when the box made it
    event: dict[str, Any]
    day: datetime.date  # under which it is kept: a sighting's and a stay's first, else of `time`
    started: datetime.datetime | None = None
    ended: datetime.datetime | None = None
    described: Described | None = None

    @property
    def people(self) -> list[str]:
        """Ids of people that it is about."""
        return [i for i in (self.event.get("person"), self.event.get("previous")) if isinstance(i, str)]


def read(subject: str, body: bytes, boxes: frozenset[str], keys: list[GroupKey]) -> Incoming:
    """boxes  those that are known; empty: whatever the hub lets in
    keys   of the groups, one of which opens what a stay holds sealed

    Raises Refused.
    """
    try:
        event = read_event(body)
        box, kind = event["box"], event["type"]
        if not isinstance(box, str) or not 0 < len(box) <= 64 or not BOOT.fullmatch(event["boot"]):
            raise ValueError("expected a box and its boot")
        if kind not in KINDS:
            raise ValueError(f"expected one of {', '.join(KINDS)}")
    except (ValueError, LookupError, TypeError) as error:
        raise Refused("malformed", f"{subject}: {error}") from None
    parts = subject.split(".")
    if len(parts) < 3 or parts[1] != plain(box):  # the hub lets each box write its own subjects only
        raise Refused("other_box", f"{subject}: says that it is of box '{box}'")
    if boxes and box not in boxes:
        raise Refused("unknown_box", f"box '{box}' is not one of `boxes` in the centre's settings")
    try:
        return _checked(kind, box, event, keys)
    except Refused:
        raise
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise Refused("malformed", f"{subject}: {error}") from None


def _checked(kind: str, box: str, event: dict[str, Any], keys: list[GroupKey]) -> Incoming:
    moment = _time(event["time"])
    started = ended = described = None
    if kind in ("sighting", "stay"):
        started, ended = _time(event["started"]), _time(event["last_seen" if kind == "sighting" else "ended"])
        _like(SIGHTING, event["sighting"])
        _like(MODEL, event["model"])
        _like(PERSON, event["person"], optional=True)
    if kind == "stay":
        _like(CAMERA, event["camera"])
        if ended is None or started is None or ended < started:
            raise ValueError("expected an end that is not before the start")
        _numbers(event)
        described = _described(event, keys)
    elif kind == "sighting":
        if not isinstance(event["cameras"], list) or not isinstance(event["zones"], list):
            raise ValueError("expected lists of cameras and zones")
        _like(PERSON, event.get("previous"), optional=True)
    elif kind == "camera":
        _like(CAMERA, event["camera"])
    if kind in ("camera", "engine", "storage", "settings") and not isinstance(event["state"], str):
        raise ValueError("expected a state")
    day = (started or moment).date()
    return Incoming(kind, box, event["boot"], event["sequence"], moment, event, day, started, ended, described)


def _numbers(event: dict[str, Any]) -> None:
    for key, most in (("track", 2**31 - 1), ("views", 65535)):
        if type(event[key]) is not int or not 0 <= event[key] <= most:
            raise ValueError(f"expected a whole number as {key}")
    if not math.isfinite(event["quality"]):
        raise ValueError("expected a number as quality")


def _described(event: dict[str, Any], keys: list[GroupKey]) -> Described:
    for key in keys:
        try:
            row = opened(event, key)
        except ValueError as error:
            fault = error
            continue
        return Described(centred(row.view, row.offset).astype(np.float32), row.offset)
    if not keys:
        raise Refused("sealed", "stays come sealed, but no group's key is configured: set groups")
    raise Refused("sealed", f"a stay of box '{event['box']}' cannot be opened ({fault}); compare the groups' keys")


def _like(pattern: re.Pattern[str], value: object, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"expected {pattern.pattern}")


def _time(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("expected a time in UTC")
    return moment.astimezone(datetime.timezone.utc)
