"""What a group's bucket says: records and who is gone, opened; who holds what. For boxes and for the centre."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personsearch.runtime.decisions.gallery_record import Id
from personsearch.runtime.decisions.person import Person
from personsearch.runtime.fleet.bucket import HELD, Entry, held_key
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.shared_record import GONE, Header, Shared, Stamp, State, opened

log = logging.getLogger("personsearch.fleet")


class _Space(Protocol):
    """The model that embeddings belong to."""

    @property
    def model_hash(self) -> str: ...

    @property
    def dimensions(self) -> int: ...


class Erasure(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    time: float
    complete: bool


class Held(BaseModel):
    """What a box says that it has: id -> version; whom it erased; whom it cannot compare (`anew`)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    box: str
    time: float
    model: str
    people: dict[Id, int]
    forgotten: dict[Id, Erasure]
    anew: tuple[Id, ...] = Field(())


@dataclass(frozen=True)
class _Opened:
    revision: int
    record: Shared | None


class GroupView:
    """The bucket's content, each record opened once. What cannot be opened is left out, with a line in the log."""

    def __init__(self, key: GroupKey) -> None:
        self._key = key
        self._opened: dict[str, _Opened] = {}
        self._by_id: dict[str, dict[str, Shared]] = {}
        self.held: dict[str, Held] = {}
        self._told: set[str] = set()

    def take(self, entries: Mapping[str, Entry]) -> None:
        for name, entry in entries.items():
            known = self._opened.get(name)
            if known is not None and known.revision == entry.revision:
                continue
            record = None
            if entry.value:
                try:
                    if name.startswith(f"{HELD}."):
                        held = _held(name, entry.value, self._key)
                        self.held[held.box] = held
                    else:
                        record = opened(name, entry.value, self._key)
                except ValueError as error:
                    self._say_once(f"{name} in the shared gallery cannot be used: {error}; compare the group's key")
            self._opened[name] = _Opened(entry.revision, record)
        for name in self._opened.keys() - entries.keys():  # the hub lost it
            del self._opened[name]
        self._by_id = {}
        for known in self._opened.values():
            if known.record is not None:
                header = known.record.header
                self._by_id.setdefault(header.id, {})[header.model] = known.record

    def ids(self) -> set[str]:
        return set(self._by_id)

    def forgotten(self) -> set[str]:
        return {i for i, own in self._by_id.items() if GONE in own and own[GONE].header.state == "forgotten"}

    def gone(self) -> set[str]:
        """Whose records have no place in the bucket any more: forgotten, or removed after all of them."""
        found = set()
        for person, own in self._by_id.items():
            gone, records = own.get(GONE), self.records(person)
            if gone is not None and records:
                last = max(record.header.stamp for record in records)
                if gone.header.state == "forgotten" or gone.header.stamp > last:
                    found.add(person)
        return found

    def records(self, person: str) -> list[Shared]:
        """For each model."""
        return [record for model, record in self._by_id.get(person, {}).items() if model != GONE]

    def record(self, person: str, model: str) -> Shared | None:
        return self._by_id.get(person, {}).get(model)

    def latest(self, person: str, model: str) -> tuple[Person | None, Stamp]:
        """What the group says of somebody to boxes with this model: the record, or that there is none any more (None,
        with a stamp), or nothing (None, Stamp())."""
        own = self._by_id.get(person, {})
        record, gone = own.get(model), own.get(GONE)
        if gone is not None and (record is None or gone.header.stamp > record.header.stamp):
            return None, gone.header.stamp
        return (record.person, record.header.stamp) if record is not None else (None, Stamp())

    def foreign(self, person: str, model: str) -> Shared | None:
        """The latest record of another model, if he is there."""
        others = [record for record in self.records(person) if record.header.model != model]
        latest = max(others, key=lambda record: record.header.stamp, default=None)
        gone = self._by_id.get(person, {}).get(GONE)
        return None if latest is None or (gone is not None and gone.header.stamp > latest.header.stamp) else latest

    def highest(self, person: str) -> int:
        """The highest version that was used for somebody, 0 for none."""
        return max((record.header.version for record in self._by_id.get(person, {}).values()), default=0)

    def people(self) -> dict[str, Person]:
        """Who is there, as the latest record of whatever model says."""
        found, forgotten = {}, self.forgotten()
        for person in self._by_id.keys() - forgotten:
            latest = self.foreign(person, "")
            if latest is not None and latest.person is not None:
                found[person] = latest.person
        return found

    def _say_once(self, text: str) -> None:
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            log.error("%s", text)


def record_of(person: Person, space: _Space, stamp: Stamp) -> Shared:
    return Shared(
        Header(
            id=person.id, model=space.model_hash, dimensions=space.dimensions, state="here", version=stamp.version,
            box=stamp.box, time=time.time(),
        ),
        person,
    )  # fmt: skip


def gone_record(person: str, state: State, stamp: Stamp) -> Shared:
    header = Header(
        id=person, model=GONE, dimensions=0, state=state, version=stamp.version, box=stamp.box, time=time.time()
    )
    return Shared(header, None)


def held_report(
    box: str, model: str, people: dict[str, int], forgotten: dict[str, dict[str, Any]], anew: list[str], key: GroupKey
) -> bytes:
    content = {
        "box": box, "time": time.time(), "model": model, "people": people, "forgotten": forgotten, "anew": anew,
    }  # fmt: skip
    return key.seal(json.dumps(content).encode(), f"personsearch held {held_key(box)}")


def _held(name: str, data: bytes, key: GroupKey) -> Held:
    try:
        held = Held.model_validate_json(key.unseal(data, f"personsearch held {name}"))
    except ValidationError:
        raise ValueError("no report of a box") from None
    if held_key(held.box) != name:
        raise ValueError("the report of another box")
    return held
