"""One enrolled person: an id that outlives renames, details, views with where they come from, and what is not him."""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from dataclasses import dataclass, replace

import numpy as np

from personsearch.core.errors import GalleryError

PICTURE = "picture"  # source of a view that comes from no camera we know
LENGTHS, ROUNDING = (1e-3, 1e3), 0.02  # of an embedding: what is no damage, and what is still 1
ID = re.compile(r"p-[0-9a-f]{12}")
MAX_LABELS, MAX_LABEL, MAX_NOTE = 32, 64, 2000


@dataclass(frozen=True, eq=False)
class Crop:
    """The picture that a view was made from, kept only when asked: JPEG, and the person's box (4,) xyxy in it."""

    jpeg: bytes
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class EnrolledView:
    """One description of a person as the model made it, and where it comes from.

    embedding  (D,) float32
    source     the camera that took it, or `picture`
    time       unix seconds at which it was enrolled, 0 for unknown
    origin     what it was made from: `ada.jpg`, `track yard/17`
    merged_from  id of the record that it came with, if that was merged into this one later
    """

    embedding: np.ndarray
    source: str = PICTURE
    quality: float = 1.0
    time: float = 0.0
    origin: str = ""
    crop: Crop | None = None
    merged_from: str = ""


@dataclass(frozen=True)
class Details:
    """What people write down about a person. `expires` is a date such as 2026-12-31, the last day on which the person
    is looked for, in the box's time zone; empty for no end."""

    labels: tuple[str, ...] = ()
    note: str = ""
    expires: str = ""


@dataclass(frozen=True)
class Merged:
    """Somebody who was found to be another enrolled person."""

    id: str
    name: str
    details: Details = Details()
    enrolled: float = 0.0


@dataclass(frozen=True, eq=False)
class Person:
    """A record that is replaced, never changed. `enrolled` is unix seconds, 0 for unknown."""

    id: str
    name: str
    details: Details = Details()
    enrolled: float = 0.0
    views: tuple[EnrolledView, ...] = ()
    negatives: tuple[EnrolledView, ...] = ()
    merged: tuple[Merged, ...] = ()

    @property
    def expires(self) -> str:
        return self.details.expires

    @property
    def ends(self) -> float:
        """Unix time at which the last day is over; inf without one."""
        if not self.expires:
            return float("inf")
        try:
            last = datetime.date.fromisoformat(self.expires) + datetime.timedelta(days=1)
            return datetime.datetime.combine(last, datetime.time()).timestamp()
        except (OverflowError, ValueError):  # the last day of the calendar
            return float("inf")

    def expired(self, now: float) -> bool:
        return bool(self.expires) and now >= self.ends

    def joined_by(self, other: Person) -> Person:
        """This person with the other's views, negative views and earlier merges."""
        views = tuple(replace(v, merged_from=v.merged_from or other.id) for v in other.views)
        negatives = tuple(replace(v, merged_from=v.merged_from or other.id) for v in other.negatives)
        merged = Merged(other.id, other.name, other.details, other.enrolled)
        return replace(
            self, views=(*self.views, *views), negatives=(*self.negatives, *negatives),
            merged=(*self.merged, *other.merged, merged),
        )  # fmt: skip

    def without(self, part: Merged) -> tuple[Person, Person]:
        """The rest, and the person who was merged as `part`. Raises GalleryError if one of them has no view left."""
        ours = tuple(v for v in self.views if v.merged_from != part.id)
        theirs = tuple(replace(v, merged_from="") for v in self.views if v.merged_from == part.id)
        if not ours or not theirs:
            raise GalleryError(f"no view of '{part.name}' is left; enrol that person anew")
        rest = replace(
            self, views=ours, negatives=tuple(v for v in self.negatives if v.merged_from != part.id),
            merged=tuple(m for m in self.merged if m.id != part.id),
        )  # fmt: skip
        negatives = tuple(replace(v, merged_from="") for v in self.negatives if v.merged_from == part.id)
        return rest, Person(part.id, part.name, part.details, part.enrolled, theirs, negatives)


def new_id() -> str:
    """`p-` and 12 hexadecimal digits, by chance: it says nothing about the person."""
    return f"p-{secrets.token_hex(6)}"


def derived_id(name: str) -> str:
    """The id of somebody who was enrolled before there were ids."""
    return f"p-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def expiry_date(text: str) -> str:
    """The date as it is kept. Raises GalleryError unless it is one; empty takes an earlier one away."""
    try:
        return datetime.date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise GalleryError(f"expected a date such as 2027-01-31, got '{text[:40]}'") from None


def usable(embeddings: np.ndarray) -> bool:
    """Are all rows (N, D) finite and of a length that a model may give?"""
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    return bool(((lengths >= LENGTHS[0]) & (lengths <= LENGTHS[1])).all())


def of_length_one(embeddings: np.ndarray) -> np.ndarray:
    """The rows; those that are longer or shorter than rounding explains are scaled, or their cosine would be none."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: np.ndarray = embeddings / np.where(np.abs(lengths - 1) > ROUNDING, lengths, np.float32(1))
    return scaled
