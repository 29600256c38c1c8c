"""The gallery as the page changes it: by the gallery file's own code, so that the stream's reload takes it over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.bundle import Manifest
from personsearch.core.errors import GalleryError, UserError
from personsearch.core.files import real_path
from personsearch.runtime.decisions.enrolment import FLOOR, MOST_VIEWS, check_likeness
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery, Person
from personsearch.runtime.decisions.gallery_file import load_or_begin, undo
from personsearch.runtime.decisions.gallery_undo import Change, read_changes, undo_file
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import derived_id
from personsearch.runtime.operations.audit import AuditLog
from personsearch.runtime.operations.gallery_commands import as_json
from personsearch.runtime.operations.place import Place
from personsearch.runtime.operations.reviews import mark_of

GREY = "the picture has no colour, by which people are recognised as well; one in colour is better"


class People:
    """Everybody enrolled. Each call reads the file anew: programs and other pages change it too."""

    def __init__(self, path: str | Path, manifest: Manifest, key: str = "", journal: str = "", audit: str = "") -> None:
        """key  where the box's key is, if the gallery is encrypted; journal, audit  files, empty for none"""
        self.path = Path(path)
        model = manifest.model_hash, manifest.dimensions
        self.place = Place(self.path, *model, key, journal, AuditLog(audit))
        self._names: dict[str, str] = {}
        self.forgotten: dict[str, float] = {}  # ids of people who were erased lately
        self._stamp: tuple[int, int] | None = None

    def gallery(self) -> Gallery:
        """Raises GalleryError for a damaged file."""
        place = self.place
        return load_or_begin(self.path, place.model_hash, place.dimensions, place.key)

    def shown(self) -> dict[str, Any]:
        """Everybody by name, without embeddings and pictures, and the change that could be taken back."""
        gallery, now = self.gallery(), time.time()
        everybody = [gallery.person(name) for name in gallery.people]
        changes = read_changes(undo_file(real_path(self.path)), gallery.revision)
        latest = changes[-1] if changes else None
        return {
            "people": [as_json(person) | {"expired": person.expired(now)} for person in everybody],
            "undo": latest and {"kind": latest.kind, "time": latest.time,
                                "people": sorted(gallery.name_of(i) or i for i in latest.people)[:5]},
        }  # fmt: skip

    def name_of(self, person: str) -> str:
        """The name of an id; what is no id of ours is a name already."""
        if not person.startswith("p-"):
            return person
        self.renew()
        return self._names.get(person, person)

    def id_of(self, name: str) -> str:
        """For the audit log, in which no names stand; of somebody who is not enrolled, what follows from the name."""
        self.renew()
        return next((i for i, known in self._names.items() if known == name), derived_id(name) if name else "")

    def renew(self) -> bool:
        """Look whether the file has changed; true if ids may resolve to other names now."""
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return False
            gallery = self.gallery()
            self._names, self.forgotten, self._stamp = gallery.names_by_id(), dict(gallery.forgotten), stamp
        except (OSError, GalleryError):
            return False
        return True

    def doubts(self, name: str, views: Sequence[EnrolledView], complaints: Sequence[str]) -> list[str]:
        """What an operator should know before enrolling. Raises UserError for views that are too poor."""
        name = person_name(name)
        if not views:
            raise UserError("choose at least one view")
        for number, view in enumerate(views, start=1):
            if view.quality < FLOOR:
                raise UserError(
                    f"view {number} is too poor to enrol (quality {view.quality:.2f}, at least {FLOOR:g} is needed); "
                    "give a better picture"
                )
        return [*complaints, *check_likeness(self.gallery(), name, list(views))]

    def add(self, name: str, views: Sequence[EnrolledView], negative: bool = False) -> Added:
        """Enrol, or with `negative` say that these views are not of this person: whoever looks more like them is not
        named so any more."""
        name, now = person_name(name), time.time()
        with self.place.changing("said not to be" if negative else "enrolled") as gallery:
            for view in views:
                gallery.add(name, view if view.time else replace(view, time=now), negative)
            person = gallery.person(name)
        rows = person.negatives if negative else person.views
        return Added(person.id, name, tuple(mark_of(row) for row in rows[len(rows) - len(views) :]))

    def take_back(self, person_id: str, marks: Sequence[str]) -> int:
        """Remove just the views with these marks of a person, by id, also those that say who it is not; gives how many
        were found. A person without views is gone."""
        with self.place.changing("taken back") as gallery:
            name = gallery.name_of(person_id)
            if name is None:
                return 0  # gone meanwhile, with all views
            person = gallery.person(name)
            kept, refused = _without(person.views, marks), _without(person.negatives, marks)
            if kept or not person.views:
                gallery.put(replace(person, views=kept, negatives=refused))
            else:
                gallery.remove(name)
        return len(person.views) + len(person.negatives) - len(kept) - len(refused)

    def remove(self, name: str) -> Person:
        """Gives who was removed. Raises GalleryError if nobody is called so."""
        with self.place.changing("removed") as gallery:
            person = gallery.person(name)
            gallery.remove(name)
        return person

    def describe(self, name: str, new: str | None, details: dict[str, Any]) -> Person:
        """Rename, and change labels, note or expiry date; what is left out stays. Raises GalleryError."""
        with self.place.changing("changed" if details else "renamed") as gallery:
            person = gallery.person(name)
            if details:
                gallery.put(replace(person, details=replace(person.details, **details)))
            if new is not None:
                gallery.rename(name, new)
            return gallery.person(new if new is not None else name)

    def merge(self, into: str, other: str) -> list[str]:
        """Two records are one person, who is called `into`. Gives both ids."""
        with self.place.changing("merged") as gallery:
            ids = [gallery.person(into).id, gallery.person(other).id]
            gallery.merge(into, other)
        return ids

    def unmerge(self, name: str) -> list[str]:
        """Whoever was merged under this name is a person again; gives the ids of whom he was part of, and his."""
        with self.place.changing("unmerged") as gallery:
            whole = gallery.unmerge(name)
            return [gallery.person(whole).id, gallery.person(name).id]

    def undo(self) -> Change:
        """Take back the latest change of the gallery, whoever made it."""
        place = self.place
        return undo(place.gallery, place.model_hash, place.dimensions, place.key)


@dataclass(frozen=True)
class Added:
    """Views that were taken up: whose, and a mark of each, by which they can be taken back."""

    id: str
    name: str
    marks: tuple[str, ...]


def _without(rows: Sequence[EnrolledView], marks: Sequence[str]) -> tuple[EnrolledView, ...]:
    """The rows but for one, the latest, with each mark."""
    rest = list(rows)
    for mark in marks:
        same = [i for i, row in enumerate(rest) if mark_of(row) == mark]
        if same:
            del rest[same[-1]]
    return tuple(rest)


def best_views(rows: np.ndarray, qualities: Sequence[float], source: str) -> list[EnrolledView]:
    """Of a track's kept views (N, D), the few best, in their order: as `enroll.py --track` chooses them."""
    best = np.argsort(-np.array(qualities), kind="stable")[:MOST_VIEWS]
    return [EnrolledView(rows[i], source, min(1.0, float(qualities[i]))) for i in sorted(best.tolist())]
