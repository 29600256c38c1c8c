"""Take a person out of gallery, keys and undo log, and remember that it is under way until all else is erased, too."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from personsearch.core.errors import GalleryError
from personsearch.core.files import real_path, replace_file
from personsearch.core.json_files import read_record
from personsearch.runtime.decisions.gallery import Gallery, stacked
from personsearch.runtime.decisions.gallery_file import load_gallery, locked, save_gallery
from personsearch.runtime.decisions.gallery_keys import Keyring, box_key, keys_file, load_keyring
from personsearch.runtime.decisions.gallery_record import unpacked
from personsearch.runtime.decisions.gallery_undo import forget_in_changes, read_changes, undo_file
from personsearch.runtime.decisions.person import ID, Person, derived_id
from personsearch.runtime.delivery.erasing import journals_of, mentions
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.operations.place import Place

FORMAT = "personsearch-receipt/1"
SHOWS = 0.7  # cosine to one of the person's views at which a negative view of somebody else shows this person


class NothingToErase(GalleryError):
    """Neither gallery nor keys nor journals know such a person."""


@dataclass(frozen=True)
class Forgotten:
    """Whom to erase: ids and names, also those that were merged into the person."""

    id: str
    ids: tuple[str, ...]
    names: tuple[str, ...]


class _Intent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    started: float


@dataclass
class Work:
    person: Forgotten
    started: float  # unix seconds of the first call
    embeddings: list[bytes] = field(default_factory=list)  # the beginning of each view, to be searched for
    receipt: dict[str, Any] = field(default_factory=dict)


def unfinished(gallery: str | Path) -> str:
    """The id of whoever was to be erased when something interrupted it, or empty. Raises GalleryError."""
    intent = _intent(Path(gallery))
    return intent.id if intent is not None else ""


def intent_file(gallery: Path) -> Path:
    return Path(f"{real_path(gallery)}.forgetting")


def leave_gallery(place: Place, wanted: str) -> Work:
    """Keys, gallery and undo log without the person."""
    path, target = place.gallery, real_path(place.gallery)
    with locked(path):
        gallery = load_gallery(path, place.model_hash, place.dimensions, place.key)
        keyring = gallery.keyring or load_keyring(keys_file(target), box_key(place.key))
        record = enrolled(gallery, wanted) or _removed(gallery, keyring, target, wanted)
        work = _begin(place, record, wanted, wanted in keyring)
        person, now = work.person, time.time()
        try:
            destroyed = sum(keyring.destroy(i) for i in person.ids)
            if destroyed:
                keyring.save()
            affected = _take_negatives(gallery, record) if record is not None else []
            gallery.drop(person.id)
            gallery.forgotten |= dict.fromkeys(person.ids, now)
            save_gallery(gallery, path, gallery.revision)  # the same revision: others' changes can still be undone
            undone = sum(forget_in_changes(undo_file(target), i, now) for i in (*person.ids, *affected))
        except OSError as error:
            raise GalleryError(f"{path}: cannot be written ({error.strerror}); ask again, it goes on there") from None
    work.receipt |= {
        "format": FORMAT, "box": socket.gethostname(), "person": person.id, "requested": iso_time(work.started),
        "gallery": {"file": str(path), **counts(record), "negative_views_of_others": len(affected)},
        "undo_log": {"changes": undone},
        "keys": {"destroyed": destroyed, "backups": "what they hold of this person cannot be decrypted any more"},
    }  # fmt: skip
    return work


def counts(record: Person | None) -> dict[str, int]:
    views, negatives = (record.views, record.negatives) if record else ((), ())
    return {
        "views": len(views), "pictures": sum(v.crop is not None for v in views), "negative_views": len(negatives),
        "merged_records": len(record.merged) if record else 0,
    }  # fmt: skip


def forgotten(record: Person) -> Forgotten:
    """Programs may have derived an id from a name: for galleries from before, and for people just gone."""
    names = tuple(dict.fromkeys([record.name, *(m.name for m in record.merged)]))
    ids = tuple(dict.fromkeys([record.id, *(m.id for m in record.merged), *map(derived_id, names)]))
    return Forgotten(record.id, ids, names)


def enrolled(gallery: Gallery, wanted: str) -> Person | None:
    name = gallery.name_of(wanted) if ID.fullmatch(wanted) else wanted
    if name is None or name not in gallery:
        merged = [p for p in gallery.everybody().values() if wanted in {m.name for m in p.merged}]
        if merged:
            raise GalleryError(f"'{wanted}' was merged into '{merged[0].name}': forget that one, or --unmerge first")
        return None
    return gallery.person(name)


def _removed(gallery: Gallery, keyring: Keyring, target: Path, wanted: str) -> Person | None:
    """Somebody who was taken out with --remove, but whom --undo could bring back."""
    for change in reversed(read_changes(undo_file(target), gallery.revision)):
        for person_id, sealed in change.people.items():
            record = keyring.unseal(person_id, sealed, gallery.model_hash) if sealed is not None else None
            if record is None or gallery.name_of(person_id) is not None:
                continue
            person = unpacked(record, gallery.dimensions)
            if wanted in (person.id, person.name):
                return person
    return None


def _intent(gallery: Path) -> _Intent | None:
    file = intent_file(gallery)
    return read_record(file, file.read_bytes(), _Intent, GalleryError) if file.exists() else None


def _begin(place: Place, record: Person | None, wanted: str, has_key: bool) -> Work:
    """Write down what is to be erased, or read what an interrupted call wrote. Raises GalleryError for a stranger, who
    is neither there nor in a journal, nor has a key that backups may need."""
    file, intent = intent_file(place.gallery), _intent(place.gallery)
    if intent is not None and wanted not in (*intent.ids, *intent.names):
        raise GalleryError(f"{file}: another erasure was interrupted; finish it first: ask for {intent.id}")
    if record is not None:
        who = forgotten(record)
        intent = _Intent(id=who.id, ids=who.ids, names=who.names, started=time.time())
    elif intent is None:
        names, ids = ((), (wanted,)) if ID.fullmatch(wanted) else ((wanted,), (derived_id(wanted),))
        if not has_key and not any(mentions(journal, names, ids) for journal in journals_of(place.journal)):
            raise NothingToErase(f"'{wanted}' is not enrolled, and no journal names such a person: nothing to erase")
        intent = _Intent(id=ids[0], ids=ids, names=names, started=time.time())
    try:
        replace_file(file, intent.model_dump_json().encode(), 0o600)
    except OSError as error:
        raise GalleryError(f"{file}: cannot be written ({error.strerror}); nothing was erased") from None
    views = (*record.views, *record.negatives) if record is not None else ()
    embeddings = [view.embedding.astype("<f4").tobytes()[:64] for view in views]
    return Work(Forgotten(intent.id, intent.ids, intent.names), intent.started, embeddings)


def _take_negatives(gallery: Gallery, record: Person) -> list[str]:
    """Negative views of others that show this very person go as well; gives whose."""
    affected = shown_by_negatives(gallery, record)
    for other, shows in affected:
        kept = tuple(view for view, this in zip(other.negatives, shows, strict=True) if not this)
        gallery.put(replace(other, negatives=kept))
    return [other.id for other, _ in affected]


def shown_by_negatives(gallery: Gallery, record: Person) -> list[tuple[Person, list[bool]]]:
    """People who have negative views that show this one, and which of their negative views do."""
    own, found = stacked(record.views, gallery.dimensions), []
    for other in gallery.everybody().values():
        if other.id != record.id and other.negatives and len(own):
            shows = (stacked(other.negatives, gallery.dimensions) @ own.T).max(1) >= SHOWS
            if shows.any():
                found.append((other, shows.tolist()))
    return found
