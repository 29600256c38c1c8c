"""Erase a person: gallery, undo log, backups (by destroying the person's key), journals, and whatever else is joined.

First the gallery, so that a running stream names nobody any more; once it has said so in its journal, the events. Then
the files' bytes are searched. What is under way stands in `people.gallery.forgetting` until all is done: whoever was
interrupted asks again, and it goes on from there.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable
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
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import ID, Person, derived_id
from personsearch.runtime.delivery.erasing import (
    count_events,
    erase_person,
    holds,
    is_written,
    journals_of,
    mentions,
    reload_seen,
    traces,
)
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.operations.place import Place

FORMAT = "personsearch-receipt/1"
SHOWS = 0.7  # cosine to one of the person's views at which a negative view of somebody else shows this person
NOT_REACHED = (
    "exported galleries, and copies of the file of keys",
    "negative views of other people that show this one, in earlier backups",
    "journals of streams without journal.path that have another TMPDIR (systemd's PrivateTmp), until they end",
    "events that subscribers have received and kept",
    "recordings of everything (--record, mode: all), which go by age",
    "what the disk keeps of files that were replaced, and copies of the files made by others",
)


class NothingToErase(GalleryError):
    """Neither gallery nor keys nor journals know such a person."""


@dataclass(frozen=True)
class Forgotten:
    """Whom to erase: ids and names, also those that were merged into the person."""

    id: str
    ids: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Eraser:
    """Another place that keeps something about people, for example the history: what it is called in the receipt, and
    what erases it and says how many rows went. Called after the gallery, once a running stream has taken that over."""

    kind: str
    erase: Callable[[Forgotten], int]
    count: Callable[[Forgotten], int] = lambda _: 0  # how many rows `erase` would take


class _Intent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    started: float


@dataclass
class _Work:
    person: Forgotten
    started: float  # unix seconds of the first call
    embeddings: list[bytes] = field(default_factory=list)  # the beginning of each view, to be searched for
    receipt: dict[str, Any] = field(default_factory=dict)


def forget(
    place: Place, name: str, erasers: Iterable[Eraser] = (), wait_s: float = 20.0,
    reload: Callable[[], None] = lambda: None,
) -> dict[str, Any]:  # fmt: skip
    """Erase whoever has this name or id; gives the receipt, whose `complete` says whether a second call is needed.

    wait_s  for a running stream to take over the gallery
    reload  called once the gallery is without the person
    Raises GalleryError if nothing about such a person is found, UserError if something cannot be written.
    """
    wanted = name.strip() if ID.fullmatch(name.strip()) else person_name(name)
    work, written = _leave_gallery(place, wanted), time.time()
    reload()
    person, receipt = work.person, work.receipt
    receipt["journals"], complete = [], True
    for journal in journals_of(place.journal):
        temporary = journal != real_path(place.journal or "/")
        if temporary and not mentions(journal, person.names, person.ids):
            continue  # perhaps of a stream with another gallery
        state = _wait_for_stream(journal, written, wait_s)
        done = erase_person(journal, person.names, person.ids)
        receipt["journals"].append({
            "file": str(journal), "stream": state, "deleted": done.deleted, "blotted": done.blotted,
            "damaged_files_removed": done.damaged,
        })  # fmt: skip
        complete &= state in ("stopped", "has taken over the gallery")
    for eraser in erasers:
        receipt[eraser.kind] = {"deleted": eraser.erase(person)}
    left = _search(place, work)
    receipt["verified"] = {"files": [str(f) for f in left], "method": "names, ids and embeddings searched as bytes"}
    receipt["traces_left"] = [str(file) for file, found in left.items() if found]
    receipt["not_reached"] = list(NOT_REACHED)
    receipt["complete"] = bool(complete and not receipt["traces_left"])
    receipt["finished"] = iso_time(time.time())
    if receipt["complete"]:
        _intent_file(place.gallery).unlink(missing_ok=True)
    return receipt


def outlook(place: Place, name: str, erasers: Iterable[Eraser] = ()) -> dict[str, Any]:
    """What `forget` would erase, in the receipt's words; changes nothing. Raises GalleryError for somebody who is not
    enrolled."""
    gallery, target = place.load(), real_path(place.gallery)
    record = _enrolled(gallery, name.strip() if ID.fullmatch(name.strip()) else person_name(name))
    if record is None:
        raise GalleryError(f"'{name[:64]}' is not enrolled")
    person = _forgotten(record)
    affected = _shown_by_negatives(gallery, record)
    changes = read_changes(undo_file(target), gallery.revision)
    return {
        "person": record.id, "name": record.name,
        "gallery": _counts(record) | {"negative_views_of_others": len(affected)},
        "undo_log": {"changes": sum(any(i in c.people for i in person.ids) for c in changes)},
        "events": sum(count_events(journal, person.names, person.ids) for journal in journals_of(place.journal)),
        **{eraser.kind: eraser.count(person) for eraser in erasers}, "not_reached": list(NOT_REACHED),
    }  # fmt: skip


def unfinished(gallery: str | Path) -> str:
    """The id of whoever was to be erased when something interrupted it, or empty. Raises GalleryError."""
    intent = _intent(Path(gallery))
    return intent.id if intent is not None else ""


def expired(gallery: Gallery, now: float, keep_days: float) -> list[str]:
    """Ids of people whose expiry date passed more than so many days ago."""
    return [p.id for p in gallery.everybody().values() if p.expires and now >= p.ends + keep_days * 86400]


# --- the gallery and what belongs to it -----------------------------------------------------------------------------


def _intent_file(gallery: Path) -> Path:
    return Path(f"{real_path(gallery)}.forgetting")


def _leave_gallery(place: Place, wanted: str) -> _Work:
    """Keys, gallery and undo log without the person."""
    path, target = place.gallery, real_path(place.gallery)
    with locked(path):
        gallery = load_gallery(path, place.model_hash, place.dimensions, place.key)
        keyring = gallery.keyring or load_keyring(keys_file(target), box_key(place.key))
        record = _enrolled(gallery, wanted) or _removed(gallery, keyring, target, wanted)
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
        "gallery": {"file": str(path), **_counts(record), "negative_views_of_others": len(affected)},
        "undo_log": {"changes": undone},
        "keys": {"destroyed": destroyed, "backups": "what they hold of this person cannot be decrypted any more"},
    }  # fmt: skip
    return work


def _counts(record: Person | None) -> dict[str, int]:
    views, negatives = (record.views, record.negatives) if record else ((), ())
    return {
        "views": len(views), "pictures": sum(v.crop is not None for v in views), "negative_views": len(negatives),
        "merged_records": len(record.merged) if record else 0,
    }  # fmt: skip


def _forgotten(record: Person) -> Forgotten:
    """Programs may have derived an id from a name: for galleries from before, and for people just gone."""
    names = tuple(dict.fromkeys([record.name, *(m.name for m in record.merged)]))
    ids = tuple(dict.fromkeys([record.id, *(m.id for m in record.merged), *map(derived_id, names)]))
    return Forgotten(record.id, ids, names)


def _enrolled(gallery: Gallery, wanted: str) -> Person | None:
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
    file = _intent_file(gallery)
    return read_record(file, file.read_bytes(), _Intent, GalleryError) if file.exists() else None


def _begin(place: Place, record: Person | None, wanted: str, has_key: bool) -> _Work:
    """Write down what is to be erased, or read what an interrupted call wrote. Raises GalleryError for a stranger, who
    is neither there nor in a journal, nor has a key that backups may need."""
    file, intent = _intent_file(place.gallery), _intent(place.gallery)
    if intent is not None and wanted not in (*intent.ids, *intent.names):
        raise GalleryError(f"{file}: another erasure was interrupted; finish it first: ask for {intent.id}")
    if record is not None:
        who = _forgotten(record)
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
    return _Work(Forgotten(intent.id, intent.ids, intent.names), intent.started, embeddings)


def _take_negatives(gallery: Gallery, record: Person) -> list[str]:
    """Negative views of others that show this very person go as well; gives whose."""
    affected = _shown_by_negatives(gallery, record)
    for other, shows in affected:
        kept = tuple(view for view, this in zip(other.negatives, shows, strict=True) if not this)
        gallery.put(replace(other, negatives=kept))
    return [other.id for other, _ in affected]


def _shown_by_negatives(gallery: Gallery, record: Person) -> list[tuple[Person, list[bool]]]:
    """People who have negative views that show this one, and which of their negative views do."""
    own, found = stacked(record.views, gallery.dimensions), []
    for other in gallery.everybody().values():
        if other.id != record.id and other.negatives and len(own):
            shows = (stacked(other.negatives, gallery.dimensions) @ own.T).max(1) >= SHOWS
            if shows.any():
                found.append((other, shows.tolist()))
    return found


# --- the stream, and the proof ----------------------------------------------------------------------------------------


def _wait_for_stream(journal: Path, since: float, wait_s: float) -> str:
    """Until the stream that writes this journal has taken over the gallery: it says so in the journal, after all
    events that it had in hand."""
    end = time.monotonic() + wait_s
    while is_written(journal):
        state, reason = reload_seen(journal, since)
        if state == "applied":
            return "has taken over the gallery"
        if time.monotonic() > end:
            why = f"it rejected the reload ({reason[:200]})" if state else "it did not look (watch_files: false?)"
            return f"has not taken over the gallery: {why}; send it SIGHUP, then ask again"
        time.sleep(0.2)
    return "stopped"


def _search(place: Place, work: _Work) -> dict[Path, bool]:
    """Every file of ours -> does it still hold bytes of the person?"""
    target, person = real_path(place.gallery), work.person
    beside = [f for f in target.parent.iterdir() if f.is_file() and f.name.lstrip(".").startswith(target.name)]
    names = [f'"name":{json.dumps(name, ensure_ascii=False)}'.encode() for name in person.names]
    found = {}
    for file in sorted(beside):
        if file == _intent_file(place.gallery) or file.name.endswith(".audit"):
            continue  # the former goes last, the latter keeps ids by purpose
        ids = [i.encode() for i in person.ids] if file in (undo_file(target), keys_file(target)) else []
        found[file] = holds(file, [*names, *work.embeddings, *ids])
    for journal in journals_of(place.journal):
        left = traces(journal, person.names, person.ids)
        found[journal] = bool(left)
    return found
