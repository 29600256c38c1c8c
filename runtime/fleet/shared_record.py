"""One person as a group shares him: a header for everybody, and the record sealed with the group's key.

    uint32 length of the header, little-endian | header, JSON | nonce and sealed record (`gallery_record.packed`)

A box's cameras are known to that box alone, so a view's source leaves it as BOX/CAMERA. Keys of the bucket are
`ID.MODEL` for a record, and `ID.gone` for somebody who was removed or forgotten.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personsearch.core.wall_clock import LATEST
from personsearch.runtime.decisions.gallery_record import MAX_SOURCE, Id, packed, unpacked
from personsearch.runtime.decisions.person import PICTURE, EnrolledView, Person
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.sink import plain

GONE, PICTURES = "gone", "pictures"  # instead of a model's hash: nobody, and pictures without embeddings
PICTURES_DIMENSIONS = 1  # of a record of pictures: its embeddings say nothing
State = Literal["here", "removed", "forgotten"]


@dataclass(frozen=True, order=True)
class Stamp:
    """Which of two changes is the later one: the higher version, of the same version that of the later box by name."""

    version: int = 0
    box: str = ""


class Header(BaseModel):
    """What the hub can read of a record: no name, no picture. All of it is bound to what is sealed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    format: Literal["personsearch-shared/1"] = "personsearch-shared/1"
    id: Id
    model: str = Field(max_length=16)
    dimensions: int = Field(ge=0, le=8192)
    state: State
    version: int = Field(ge=1, lt=2**53)
    box: str = Field(min_length=1, max_length=64)
    time: float = Field(ge=0, le=LATEST)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.version, self.box)

    @property
    def key(self) -> str:
        return f"{self.id}.{self.model}"


@dataclass(frozen=True, eq=False)
class Shared:
    """A record of the bucket. `person` is None for somebody who is gone."""

    header: Header
    person: Person | None


def sealed(record: Shared, key: GroupKey) -> bytes:
    """Raises GalleryError for a person that cannot be written."""
    head = record.header.model_dump_json().encode()
    body = packed(record.person) if record.person is not None else b""
    return struct.pack("<I", len(head)) + head + key.seal(body, _bound(head))


def opened(name: str, data: bytes, key: GroupKey) -> Shared:
    """The record under a key of the bucket. Raises ValueError for what is damaged, lies elsewhere, or was sealed with
    another key: the hub is not trusted."""
    try:
        (length,) = struct.unpack_from("<I", data)
        head = data[4 : 4 + length]
        header = Header.model_validate_json(head)
    except (struct.error, ValidationError):
        raise ValueError("no record of a shared gallery") from None
    if header.key != name:
        raise ValueError("the record of another key")
    body = key.unseal(data[4 + length :], _bound(head))
    if (header.state == "here") != bool(body) or (header.model == GONE) == bool(body):
        raise ValueError("says what it does not hold")
    person = unpacked(body, header.dimensions) if body else None
    if person is not None and person.id != header.id:
        raise ValueError("the record of another person")
    return Shared(header, person)


def _bound(head: bytes) -> str:
    return "personsearch shared " + hashlib.sha256(head).hexdigest()


# --- one gallery's view and the group's -------------------------------------------------------------------------------


_outwards: WeakKeyDictionary[Person, tuple[str, Person]] = WeakKeyDictionary()


def outward(person: Person, box: str) -> Person:
    """As the group knows him: cameras carry their box's name. The same for the same, so that its digest is known."""
    name, found = _outwards.get(person, ("", person))
    if name != box:
        found = _with_sources(person, lambda s: s if s == PICTURE or "/" in s else _place(box, s))
        if found is not person:
            _outwards[person] = (box, found)
    return found


def inward(person: Person, box: str) -> Person:
    """As this box knows him: its own cameras by their names."""
    own = _place(box, "")
    return _with_sources(person, lambda source: source.removeprefix(own))


def _place(box: str, camera: str) -> str:
    return f"{plain(box)[: MAX_SOURCE - 1 - 32]}/{camera}"[:MAX_SOURCE]


def _with_sources(person: Person, name_of: Callable[[str], str]) -> Person:
    def renamed(views: tuple[EnrolledView, ...]) -> tuple[EnrolledView, ...]:
        return tuple(v if (s := name_of(v.source)) == v.source else replace(v, source=s) for v in views)

    views, negatives = renamed(person.views), renamed(person.negatives)
    old, new = (*person.views, *person.negatives), (*views, *negatives)
    if all(one is other for one, other in zip(old, new, strict=True)):
        return person
    return replace(person, views=views, negatives=negatives)


def without_pictures(person: Person) -> Person:
    def bare(views: tuple[EnrolledView, ...]) -> tuple[EnrolledView, ...]:
        return tuple(v if v.crop is None else replace(v, crop=None) for v in views)

    return replace(person, views=bare(person.views), negatives=bare(person.negatives))


_digests: WeakKeyDictionary[Person, str] = WeakKeyDictionary()  # a person is compared often, and never changed


def digest(person: Person) -> str:
    """Of all but pictures: tells two states apart, and nothing about the person."""
    found = _digests.get(person)
    if found is None:
        found = _digests[person] = hashlib.sha256(packed(without_pictures(person))).hexdigest()[:32]
    return found


def details_digest(person: Person) -> str:
    details = person.details
    text = json.dumps([person.name, list(details.labels), details.note, details.expires])
    return hashlib.sha256(f"{person.id} {text}".encode()).hexdigest()[:16]


def view_digest(view: EnrolledView) -> str:
    return hashlib.sha256(view.embedding.astype("<f4").tobytes()).hexdigest()[:16]
