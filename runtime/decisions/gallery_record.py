"""A person as bytes, for the gallery's file, its undo log and its backups: JSON, then embeddings, then pictures.

uint32 length of the JSON, little-endian | JSON, UTF-8 | float32 embeddings of views and negative views | JPEGs
"""

from __future__ import annotations

import hashlib
import struct
from typing import Annotated
from weakref import WeakValueDictionary

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personsearch.core.errors import GalleryError
from personsearch.core.wall_clock import LATEST
from personsearch.runtime.decisions.names import MAX_NAME, person_name
from personsearch.runtime.decisions.person import (
    ID,
    MAX_LABEL,
    MAX_LABELS,
    MAX_NOTE,
    ROUNDING,
    Crop,
    Details,
    EnrolledView,
    Merged,
    Person,
    expiry_date,
    of_length_one,
    usable,
)

MAX_SOURCE, MAX_ORIGIN, MAX_CROP = 64, 300, 4 << 20
MAX_OF_ONE = 10_000  # views of one person
Id = Annotated[str, Field(pattern=rf"^{ID.pattern}$")]

Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]


_held: WeakValueDictionary[tuple[bytes, int], Person] = WeakValueDictionary()  # by what they were made of


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _View(_Part):
    source: str = Field(min_length=1, max_length=MAX_SOURCE)
    quality: float = Field(ge=0, le=1)
    time: float = Field(0.0, ge=0, le=LATEST)
    origin: str = Field("", max_length=MAX_ORIGIN)
    merged_from: Id | None = None
    crop: tuple[int, float, float, float, float] | None = None  # bytes of the JPEG, and the box in it


class _Details(_Part):
    labels: tuple[Label, ...] = Field(default=(), max_length=MAX_LABELS)
    note: str = Field(default="", max_length=MAX_NOTE)
    expires: str = ""


class _Merged(_Part):
    id: Id
    name: str = Field(max_length=MAX_NAME)
    details: _Details = Field(default_factory=_Details)
    enrolled: float = Field(0.0, ge=0, le=LATEST)


class _Person(_Merged):
    views: tuple[_View, ...] = Field(min_length=1, max_length=MAX_OF_ONE)
    negatives: tuple[_View, ...] = Field((), max_length=MAX_OF_ONE)
    merged: tuple[_Merged, ...] = ()


def packed(person: Person) -> bytes:
    """Raises GalleryError for what could not be read again: a label that is too long, say."""
    views = (*person.views, *person.negatives)
    try:
        record = _Person(
            id=person.id, name=person.name, details=_plain(person.details), enrolled=person.enrolled,
            views=tuple(map(_header, person.views)), negatives=tuple(map(_header, person.negatives)),
            merged=tuple(_Merged(id=m.id, name=m.name, details=_plain(m.details), enrolled=m.enrolled)
                         for m in person.merged),
        )  # fmt: skip
    except ValidationError as error:
        raise GalleryError(f"'{person.name}': {_first(error)}; nothing was changed") from None
    head = record.model_dump_json(exclude_defaults=True).encode()
    embeddings = np.array([view.embedding for view in views], "<f4").tobytes()
    crops = b"".join(view.crop.jpeg for view in views if view.crop is not None)
    return b"".join((struct.pack("<I", len(head)), head, embeddings, crops))


def unpacked(data: bytes, dimensions: int) -> Person:
    """The same person for the same bytes, as long as somebody holds him: a gallery that is read again for one change
    is mostly as it was. Raises ValueError for anything but what `packed` makes, whoever wrote it."""
    made_of = hashlib.blake2b(data, digest_size=16).digest(), dimensions
    person = _held.get(made_of)
    if person is None:
        person = _held[made_of] = _unpacked(data, dimensions)
    return person


def _unpacked(data: bytes, dimensions: int) -> Person:
    try:
        (length,) = struct.unpack_from("<I", data)
        record = _Person.model_validate_json(data[4 : 4 + length])
        headers = (*record.views, *record.negatives)
        end = 4 + length + 4 * dimensions * len(headers)
        rows = np.frombuffer(data[4 + length : end], "<f4").reshape(len(headers), dimensions).astype(np.float32)
        name = person_name(record.name)
        details = [_checked(part.details) for part in (record, *record.merged)]
        names = [person_name(part.name) for part in record.merged]
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    except struct.error:
        raise ValueError("too short") from None
    except GalleryError as error:
        raise ValueError(str(error)) from None
    squares = np.einsum("nd,nd->n", rows, rows)
    if not (np.abs(squares - 1) <= ROUNDING).all():  # only then look closer: ten thousand people are read in a second
        if not usable(rows):
            raise ValueError(f"expected {len(rows)} finite embeddings of {dimensions} numbers")
        rows = of_length_one(rows)
    views, place = [], end
    for header, row in zip(headers, rows, strict=True):
        crop = None
        if header.crop is not None:
            size, *box = header.crop
            if not 0 < size <= MAX_CROP or place + size > len(data):
                raise ValueError("a picture is cut off")
            crop = Crop(data[place : place + size], (box[0], box[1], box[2], box[3]))
            place += size
        views.append(EnrolledView(
            row, header.source, header.quality, header.time, header.origin, crop, header.merged_from or ""
        ))  # fmt: skip
    if place != len(data):
        raise ValueError("longer than it should be")
    merged = [
        Merged(part.id, other, more, part.enrolled)
        for part, other, more in zip(record.merged, names, details[1:], strict=True)
    ]
    count = len(record.views)
    return Person(
        record.id, name, details[0], record.enrolled, tuple(views[:count]), tuple(views[count:]), tuple(merged)
    )


def _header(view: EnrolledView) -> _View:
    crop = None
    if view.crop is not None:
        x1, y1, x2, y2 = map(float, view.crop.box)
        crop = (len(view.crop.jpeg), x1, y1, x2, y2)
    return _View(
        source=view.source, quality=round(float(view.quality), 4), time=view.time, origin=view.origin,
        merged_from=view.merged_from or None, crop=crop,
    )  # fmt: skip


def _plain(details: Details) -> _Details:
    return _Details(labels=details.labels, note=details.note, expires=details.expires)


def _checked(details: _Details) -> Details:
    return Details(details.labels, details.note, expiry_date(details.expires))


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
