"""The enrolled people: ids, names and views, for one model. `gallery_file.py` keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from personsearch.core.errors import GalleryError
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import (
    PICTURE,
    EnrolledView,
    Merged,
    Person,
    derived_id,
    new_id,
    of_length_one,
    usable,
)

if TYPE_CHECKING:
    from personsearch.runtime.decisions.gallery_keys import Keyring

__all__ = ["PICTURE", "EnrolledView", "Gallery", "Merged", "Person", "of_length_one", "usable"]


@dataclass
class _Rows:
    """Views by person as arrays, people in the order of their names."""

    people: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    views: list[EnrolledView] = field(default_factory=list)


class Gallery:
    """People by name. Rows are their views, person by person:

    people      sorted names (P,)
    names       of the rows (N,), owners (N,) int64 says whose view a row is, and rises
    sources, qualities (N,), embeddings (N, D) float32 as the model made them, not centred
    revision    of the file that it was read from; keyring, sealed: how that is encrypted, see gallery_keys.py
    forgotten   id -> unix seconds of people who were erased lately, for programs that keep more about them
    """

    def __init__(self, model_hash: str, dimensions: int, names: Sequence[str] = (), views: Sequence[EnrolledView] = ()):
        """names, views  rows of people without ids, as the first formats had them: ids are derived from the names"""
        self.model_hash, self.dimensions = model_hash, dimensions
        self.revision, self.sealed = "", False
        self.keyring: Keyring | None = None
        self.forgotten: dict[str, float] = {}
        self._by_id: dict[str, Person] = {}
        self._ids: dict[str, str] = {}  # name -> id
        self._aliases: dict[str, str] = {}  # id of somebody merged into another -> that one's id
        self._records: dict[str, tuple[Person, bytes]] = {}  # by id
        grouped: dict[str, list[EnrolledView]] = {}
        for name, view in zip(names, views, strict=True):
            grouped.setdefault(name, []).append(view)
        for name, own in grouped.items():
            self.put(Person(derived_id(name), name, views=tuple(own)))

    # --- who is there -------------------------------------------------------------------------------------------------

    def id_of(self, name: str) -> str:
        """Of somebody who is not enrolled (any more), the id that follows from the name: what is under way goes on."""
        return self._ids.get(name) or derived_id(name)

    def name_of(self, person_id: str) -> str | None:
        """None for an id that nobody has (any more); that of somebody merged into another gives the other's name."""
        person = self._by_id.get(person_id) or self._by_id.get(self._aliases.get(person_id, ""))
        return person.name if person is not None else None

    def names_by_id(self) -> dict[str, str]:
        """As `name_of`: an id that was merged into another one gives the other's name."""
        names = {key: person.name for key, person in self._by_id.items()}
        return {alias: names[key] for alias, key in self._aliases.items() if key in names} | names

    def person(self, name: str) -> Person:
        """Raises GalleryError if nobody of that name is enrolled."""
        name = person_name(name)
        if name not in self._ids:
            raise GalleryError(f"'{name}' is not enrolled; --list shows who is")
        return self._by_id[self._ids[name]]

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def everybody(self) -> dict[str, Person]:
        """By id; the records are never changed, only replaced."""
        return dict(self._by_id)

    def views_of(self, name: str) -> list[EnrolledView]:
        return list(self.person(name).views) if name in self._ids else []

    # --- their bytes, while a file is changed -------------------------------------------------------------------------

    def keep_record(self, person: Person, record: bytes) -> None:
        """record  what the person was read from"""
        self._records[person.id] = (person, record)

    def record_of(self, person: Person) -> bytes | None:
        """What the person was read from; None unless it was kept, and for whoever was changed since."""
        owner, record = self._records.get(person.id, (None, None))
        return record if owner is person else None

    def forget_records(self) -> None:
        self._records = {}

    # --- changes ------------------------------------------------------------------------------------------------------

    def put(self, person: Person) -> None:
        """Take in a person, or replace the record with that id. Raises GalleryError if another has the name."""
        if self._ids.get(person.name, person.id) != person.id:
            raise GalleryError(f"'{person.name}' is enrolled already as another person; choose another name, or merge")
        self.drop(person.id)
        self._by_id[person.id] = person
        self._ids[person.name] = person.id
        self._aliases.update({other.id: person.id for other in person.merged})
        self.__dict__.pop("_rows", None)
        self.__dict__.pop("embeddings", None)

    def drop(self, person_id: str) -> Person | None:
        """Take out whoever has this id; gives the record."""
        person = self._by_id.pop(person_id, None)
        if person is not None:
            del self._ids[person.name]
            for other in person.merged:
                self._aliases.pop(other.id, None)
            self.__dict__.pop("_rows", None)
            self.__dict__.pop("embeddings", None)
        return person

    def add(self, name: str, view: EnrolledView, negative: bool = False) -> None:
        """A view of a person, who is new if there is none of that name.

        negative  a view of somebody who is not this person, but was taken for it
        Raises GalleryError for a name that cannot be one, and for an embedding that no model gives.
        """
        name, row = person_name(name), np.asarray(view.embedding, np.float32).reshape(1, -1)
        if row.shape != (1, self.dimensions) or not usable(row):
            raise GalleryError(f"{name}: expected an embedding of {self.dimensions} numbers; nothing enrolled")
        view = replace(view, embedding=of_length_one(row)[0])
        if negative:
            person = self.person(name)
            self.put(replace(person, negatives=(*person.negatives, view)))
        elif name in self._ids:
            person = self.person(name)
            self.put(replace(person, views=(*person.views, view)))
        else:
            self.put(Person(new_id(), name, enrolled=time.time(), views=(view,)))

    def remove(self, name: str) -> int:
        """Take a person out; gives the number of views removed."""
        name = person_name(name)
        person = self.drop(self._ids[name]) if name in self._ids else None
        return len(person.views) if person is not None else 0

    def rename(self, old: str, new: str) -> None:
        """The id stays. Raises GalleryError for an unknown person, and for a name that another one has."""
        person, name = self.person(old), person_name(new)
        if name in self._ids and self._ids[name] != person.id:
            raise GalleryError(f"'{name}' is enrolled already; if they are one person, merge them with --merge")
        self.put(replace(person, name=name))

    def merge(self, into: str, other: str) -> None:
        """Two records turn out to be one person: `into` gets the other's views, which remember where they come from."""
        person, joining = self.person(into), self.person(other)
        if person.id == joining.id:
            raise GalleryError(f"'{person.name}' cannot be merged with itself; give two names")
        self.drop(joining.id)
        self.put(person.joined_by(joining))

    def unmerge(self, name: str) -> str:
        """Undo a merge, however long ago: whoever was merged under this name gets his views and id back. Gives the name
        of the person he was part of. Raises GalleryError."""
        name = person_name(name)
        found = [(p, m) for p in self._by_id.values() for m in p.merged if m.name == name]
        if not found:
            raise GalleryError(f"nobody was merged under the name '{name}'; --list shows who was")
        whole, part = found[0]
        if name in self._ids and self._ids[name] != whole.id:
            raise GalleryError(f"'{name}' is enrolled already; rename one of them first with --rename")
        rest, again = whole.without(part)
        self.put(rest)
        self.put(again)
        return rest.name

    # --- those who count ----------------------------------------------------------------------------------------------

    def current(self, now: float) -> Gallery:
        """Without the people whose expiry date has passed at unix time `now`: they are not matched."""
        over = [p.id for p in self._by_id.values() if p.expired(now)]
        if not over:
            return self
        rest = Gallery(self.model_hash, self.dimensions)
        rest._by_id = {key: p for key, p in self._by_id.items() if key not in over}
        rest._ids = {p.name: p.id for p in rest._by_id.values()}
        rest._aliases = {alias: key for alias, key in self._aliases.items() if key in rest._by_id}
        return rest

    def next_expiry(self, now: float) -> float:
        """Unix time at which somebody expires next; inf for never."""
        return min((p.ends for p in self._by_id.values() if p.expires and not p.expired(now)), default=np.inf)

    # --- rows ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _rows(self) -> _Rows:
        rows = _Rows(people=sorted(self._ids))
        for number, name in enumerate(rows.people):
            own = self._by_id[self._ids[name]].views
            rows.names += [name] * len(own)
            rows.owners += [number] * len(own)
            rows.views += own
        return rows

    @cached_property
    def embeddings(self) -> np.ndarray:
        """(N, D) float32"""
        return stacked(self._rows.views, self.dimensions)

    @property
    def people(self) -> list[str]:
        return self._rows.people

    @property
    def names(self) -> list[str]:
        return self._rows.names

    @property
    def owners(self) -> np.ndarray:
        return np.array(self._rows.owners, np.int64)

    @property
    def sources(self) -> list[str]:
        return [view.source for view in self._rows.views]

    @property
    def qualities(self) -> np.ndarray:
        return np.array([view.quality for view in self._rows.views], np.float32)

    @property
    def rows(self) -> list[EnrolledView]:
        """All views, in the order of `names`."""
        return list(self._rows.views)

    def negatives(self) -> tuple[list[int], list[EnrolledView]]:
        """Views that are said not to be somebody: whose (position in `people`, rising), and the views."""
        owned = [(n, v) for n, name in enumerate(self.people) for v in self._by_id[self._ids[name]].negatives]
        return [n for n, _ in owned], [v for _, v in owned]


def stacked(views: Iterable[EnrolledView], dimensions: int) -> np.ndarray:
    """(N, D) float32"""
    rows = [view.embedding for view in views]
    return np.array(rows, np.float32).reshape(len(rows), dimensions)
