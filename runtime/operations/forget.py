"""Erase a person: gallery, undo log, backups (by destroying the person's key), journals, and whatever else is joined.

First the gallery, so that a running stream names nobody any more; once it has said so in its journal, the events. Then
the files' bytes are searched. What is under way stands in `people.gallery.forgetting` until all is done: whoever was
interrupted asks again, and it goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import GalleryError
from personsearch.core.files import real_path
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.gallery_keys import keys_file
from personsearch.runtime.decisions.gallery_undo import read_changes, undo_file
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import ID
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
from personsearch.runtime.operations.forget_gallery import (
    Forgotten,
    Work,
    counts,
    enrolled,
    forgotten,
    intent_file,
    leave_gallery,
    shown_by_negatives,
)
from personsearch.runtime.operations.place import Place

NOT_REACHED = (
    "exported galleries, and copies of the file of keys",
    "negative views of other people that show this one, in earlier backups",
    "journals of streams without journal.path that have another TMPDIR (systemd's PrivateTmp), until they end",
    "events that subscribers have received and kept",
    "recordings of everything (--record, mode: all), which go by age",
    "what the disk keeps of files that were replaced, and copies of the files made by others",
)


@dataclass(frozen=True)
class Eraser:
    """Another place that keeps something about people, for example the history: what it is called in the receipt, and
    what erases it and says how many rows went. Called after the gallery, once a running stream has taken that over."""

    kind: str
    erase: Callable[[Forgotten], int]
    count: Callable[[Forgotten], int] = lambda _: 0  # how many rows `erase` would take


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
    work, written = leave_gallery(place, wanted), time.time()
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
        intent_file(place.gallery).unlink(missing_ok=True)
    return receipt


def outlook(place: Place, name: str, erasers: Iterable[Eraser] = ()) -> dict[str, Any]:
    """What `forget` would erase, in the receipt's words; changes nothing. Raises GalleryError for somebody who is not
    enrolled."""
    gallery, target = place.load(), real_path(place.gallery)
    record = enrolled(gallery, name.strip() if ID.fullmatch(name.strip()) else person_name(name))
    if record is None:
        raise GalleryError(f"'{name[:64]}' is not enrolled")
    person = forgotten(record)
    affected = shown_by_negatives(gallery, record)
    changes = read_changes(undo_file(target), gallery.revision)
    return {
        "person": record.id, "name": record.name,
        "gallery": counts(record) | {"negative_views_of_others": len(affected)},
        "undo_log": {"changes": sum(any(i in c.people for i in person.ids) for c in changes)},
        "events": sum(count_events(journal, person.names, person.ids) for journal in journals_of(place.journal)),
        **{eraser.kind: eraser.count(person) for eraser in erasers}, "not_reached": list(NOT_REACHED),
    }  # fmt: skip


def expired(gallery: Gallery, now: float, keep_days: float) -> list[str]:
    """Ids of people whose expiry date passed more than so many days ago."""
    return [p.id for p in gallery.everybody().values() if p.expires and now >= p.ends + keep_days * 86400]


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


def _search(place: Place, work: Work) -> dict[Path, bool]:
    """Every file of ours -> does it still hold bytes of the person?"""
    target, person = real_path(place.gallery), work.person
    beside = [f for f in target.parent.iterdir() if f.is_file() and f.name.lstrip(".").startswith(target.name)]
    names = [f'"name":{json.dumps(name, ensure_ascii=False)}'.encode() for name in person.names]
    found = {}
    for file in sorted(beside):
        if file == intent_file(place.gallery) or file.name.endswith(".audit"):
            continue  # the former goes last, the latter keeps ids by purpose
        ids = [i.encode() for i in person.ids] if file in (undo_file(target), keys_file(target)) else []
        found[file] = holds(file, [*names, *work.embeddings, *ids])
    for journal in journals_of(place.journal):
        left = traces(journal, person.names, person.ids)
        found[journal] = bool(left)
    return found
