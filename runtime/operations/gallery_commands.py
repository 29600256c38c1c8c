"""What `runtime/enroll.py` does to a gallery apart from enrolling: list, rename, merge, undo, copies, encryption."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from personsearch.core.errors import GalleryError
from personsearch.core.text import json_line, printable
from personsearch.runtime.decisions import gallery_copies
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery, Person
from personsearch.runtime.decisions.gallery_file import undo
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import MAX_LABEL, MAX_LABELS, MAX_NOTE, Details, expiry_date
from personsearch.runtime.operations.place import Place


def run(task: str, place: Place, given: argparse.Namespace) -> int:
    """One of the tasks of enroll.py; they print what they did. Raises UserError."""
    files = (place.gallery, place.model_hash, place.dimensions)
    if task in ("list", "show"):
        _list(place.load(), given)
        return 0
    place.audit.check()
    if task in ("rename", "merge", "unmerge", "remove"):
        _change(task, place, given)
    elif task == "undo":
        change = undo(*files, place.key)
        place.audit.add("undone", change=change.kind, people=sorted(change.people))
        names = _names(place.load(), sorted(change.people))
        print(f"undone: {change.kind} {names} ({_moment(change.time)})")
    elif task == "backup":
        count = gallery_copies.backup(*files, given.backup, place.key)
        place.audit.add("backed-up", people=count)
        print(f"wrote {given.backup}: {count} people; only this box can read it, with {place.gallery}.keys")
    elif task == "restore":
        _brought(place, "restored", given.restore, gallery_copies.restore(*files, given.restore, place.key))
    elif task == "export":
        count = gallery_copies.export(*files, given.export, place.key, given.export_key)
        place.audit.add("exported", people=count, sealed=bool(given.export_key))
        print(f"wrote {given.export}: {count} people{'' if given.export_key else ', readable by whoever has the file'}")
    elif task == "import_":
        brought = gallery_copies.take_in(*files, given.import_, place.key, given.export_key)
        _brought(place, "imported", given.import_, brought)
    elif task == "encrypt":
        count = gallery_copies.encrypt(*files, place.key)
        place.audit.add("encrypted", people=count)
        print(f"{place.gallery}: {count} people are encrypted; without the box's key ({place.key or 'as found'}) and "
              f"{place.gallery}.keys nobody can read them: keep copies of both, apart from backups")  # fmt: skip
    else:
        count = gallery_copies.decrypt(*files, place.key)
        place.audit.add("decrypted", people=count)
        print(f"{place.gallery}: {count} people are no longer encrypted")
    return 0


def re_embed(place: Place, to: str, embed: gallery_copies.Embed) -> int:
    place.audit.check()
    new, anew = gallery_copies.re_embed(place.gallery, to, place.model_hash, place.dimensions, embed, place.key)
    place.audit.add("re-embedded", people=len(new.people), left_out=len(anew), model=place.model_hash)
    print(f"wrote {to}: {len(new.people)} people for model {place.model_hash}; {place.gallery} is unchanged")
    for name in anew:
        print(f"enrol anew: {name} (no picture was kept)")
    return 0


def _change(task: str, place: Place, given: argparse.Namespace) -> None:
    done = {"rename": "renamed", "merge": "merged", "unmerge": "unmerged", "remove": "removed"}[task]
    with place.changing(done) as g:
        if task == "rename":
            old, new = map(person_name, given.rename)
            g.rename(old, new)
            people, said = [g.id_of(new)], f"renamed {old} to {new}"
        elif task == "merge":
            into, other = map(person_name, given.merge)
            people = [g.person(into).id, g.person(other).id]
            g.merge(into, other)
            said = f"merged {other} into {into}, who has {len(g.views_of(into))} view(s) now"
        elif task == "unmerge":
            whole = g.unmerge(given.unmerge)
            people = [g.person(whole).id, g.person(given.unmerge).id]
            said = f"took {person_name(given.unmerge)} out of {whole} again"
        else:
            name = person_name(given.remove)
            if name not in g:
                raise GalleryError(f"{place.gallery}: '{name}' is not enrolled; --list shows who is")
            people, said = [g.id_of(name)], f"removed {name}"
            g.remove(name)
    place.audit.add(done, people=people)
    print(said)


def _brought(place: Place, kind: str, file: str, brought: gallery_copies.Brought) -> None:
    counts = {"added": len(brought.added), "changed": len(brought.changed), "removed": len(brought.removed)}
    place.audit.add(kind, **counts, left_out=brought.forgotten)
    print(f"{kind} {file}: " + ", ".join(f"{number} {word}" for word, number in counts.items()))
    if brought.forgotten:
        print(f"{brought.forgotten} people were forgotten since, and stay so")


def described(given: argparse.Namespace) -> Callable[[Details], Details]:
    """What --label, --note and --expires make of a person's details. Raises GalleryError."""
    labels = tuple(dict.fromkeys(label.strip() for label in given.label if label.strip()))
    if len(labels) > MAX_LABELS or any(len(label) > MAX_LABEL for label in labels):
        raise GalleryError(f"--label: at most {MAX_LABELS} labels of at most {MAX_LABEL} characters")
    if given.note is not None and len(given.note) > MAX_NOTE:
        raise GalleryError(f"--note: at most {MAX_NOTE} characters, got {len(given.note)}")
    changes: dict[str, Any] = {"labels": labels} if given.label else {}
    changes |= {"note": given.note} if given.note is not None else {}
    changes |= {"expires": expiry_date(given.expires)} if given.expires is not None else {}
    return lambda details: replace(details, **changes)


# --- lists ------------------------------------------------------------------------------------------------------------


def _list(gallery: Gallery, given: argparse.Namespace) -> None:
    now = time.time()
    chosen = [gallery.person(given.show)] if given.show else [gallery.person(name) for name in gallery.people]
    for person in chosen:
        if given.json:
            print(json_line(as_json(person)))
            continue
        views = len(person.views)
        cameras = ", ".join(sorted({view.source for view in person.views}))
        line = (person.name, f"{views} view{'s' if views > 1 else ''}", cameras, person.id, _details(person, now))
        print(printable("\t".join(line).rstrip(), keep="\t"))
        if given.show:
            _show(person)


def _show(person: Person) -> None:
    facts = {"enrolled": _moment(person.enrolled), "note": printable(person.details.note)}
    for word, text in facts.items():
        if text:
            print(f"  {word}: {text}")
    merged = {other.id: other.name for other in person.merged}
    for kind, views in (("view", person.views), ("not", person.negatives)):
        for number, view in enumerate(views, start=1):
            parts = [view.source, f"quality {view.quality:.2f}", _moment(view.time), printable(view.origin)]
            parts.append("picture kept" if view.crop is not None else "")
            parts.append(f"from {merged.get(view.merged_from, view.merged_from)}" if view.merged_from else "")
            print(printable(f"  {kind} {number}: " + ", ".join(part for part in parts if part)))


def _details(person: Person, now: float) -> str:
    parts = [f"[{printable(label)}]" for label in person.details.labels]
    if person.expires:
        parts.append(f"{'EXPIRED' if person.expired(now) else 'expires'} {person.expires}")
    if person.negatives:
        parts.append(f"{len(person.negatives)} negative view(s)")
    return " ".join([*parts, *(f"with {other.name}" for other in person.merged)])


def as_json(person: Person) -> dict[str, Any]:
    """All but embeddings and pictures."""
    return {
        "id": person.id, "name": person.name, "labels": list(person.details.labels), "note": person.details.note,
        "expires": person.expires or None, "enrolled": person.enrolled or None,
        "views": [_view(view) for view in person.views], "negative_views": [_view(view) for view in person.negatives],
        "merged": [{"id": other.id, "name": other.name} for other in person.merged],
    }  # fmt: skip


def _view(view: EnrolledView) -> dict[str, Any]:
    return {
        "source": view.source, "quality": round(view.quality, 4), "time": view.time or None, "origin": view.origin,
        "picture": view.crop is not None, "merged_from": view.merged_from or None,
    }  # fmt: skip


def _names(gallery: Gallery, ids: list[str]) -> str:
    return ", ".join(gallery.name_of(person_id) or person_id for person_id in ids[:5]) + ("..." if len(ids) > 5 else "")


def _moment(seconds: float) -> str:
    """In the box's time, or empty for unknown."""
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "minutes") if seconds else ""
