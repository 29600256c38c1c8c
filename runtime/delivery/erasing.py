"""Erase a person in a journal, whether or not a stream writes it at the moment.

Events about the person are deleted; in those about others, where the person was the runner-up, the name is blotted out.
SQLite overwrites what it deletes (`secure_delete`), and a truncating checkpoint empties the log beside the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.core.files import real_path
from personsearch.runtime.delivery.events import encode_text
from personsearch.runtime.delivery.journal import damaged_journals
from personsearch.runtime.delivery.temporary import JOURNAL, PREFIX

PAGE = 5000  # events in one transaction: the stream's own writes wait for no longer
BUSY_S = 20.0
BLOT = "[erased]"


@dataclass
class ErasedEvents:
    """What was done to one journal."""

    deleted: int = 0  # events about the person
    blotted: int = 0  # events about others that named the person
    damaged: int = 0  # unreadable journals that were moved aside earlier, and held the person


def journals_of(path: str) -> list[Path]:
    """The journal at `path`, if there is one, and those of this user's streams that have no `journal.path`."""
    named = [real_path(path)] if path and Path(path).exists() else []
    kept = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{JOURNAL}"))
    return [*named, *(file for file in kept if os.access(file, os.W_OK))]


def is_written(path: Path) -> bool:
    """Does a stream hold this journal?"""
    try:
        with open(f"{path}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def erase_person(path: Path, names: Sequence[str], ids: Sequence[str]) -> ErasedEvents:
    """Of all events in the journal. Raises UserError if it cannot be written."""
    done = ErasedEvents()
    marks = {*names, *ids}
    try:
        database = _open(path)
        last = database.execute("select max(sequence) from events").fetchone()[0] or 0
        first = database.execute("select min(sequence) from events").fetchone()[0] or 0
        marks |= _sightings_of(database, ids)
        for begin in range(first, last + 1, PAGE):
            _erase_page(database, begin, min(last, begin + PAGE - 1), marks, done)
        _settle(database)
        if traces(path, names, ids):  # left by a version that did not overwrite what it deleted
            database.execute("vacuum")
            _settle(database)
        database.close()
        for aside in damaged_journals(path):
            if holds(aside, patterns(names, ids)):
                aside.unlink()
                done.damaged += 1
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{path}: the journal cannot be written ({error}); nothing is lost, ask again later") from None
    return done


def reload_seen(path: Path, since: float) -> tuple[str, str]:
    """What the stream said about its latest reload after unix time `since`: state and reason, or empty."""
    try:
        database = _open(path)
        query = "select body from events where topic = 'settings' and wall >= ? order by sequence desc limit 1"
        row = database.execute(query, (since,)).fetchone()
        database.close()
    except sqlite3.Error:
        return "", ""
    event = json.loads(row[0]) if row else {}
    return event.get("state", ""), event.get("reason", "")


def mentions(path: Path, names: Sequence[str], ids: Sequence[str]) -> bool:
    """Is there an event that names the person?"""
    database = _open(path)
    found = any(database.execute("select 1 from events where instr(body, ?) limit 1", (p,)).fetchone()
                for p in patterns(names, ids))  # fmt: skip
    database.close()
    return found


def count_events(path: Path, names: Sequence[str], ids: Sequence[str]) -> int:
    """How many events `erase_person` would delete or change. Raises UserError."""
    marks = patterns(names, ids)
    try:
        database = _open(path)
        held = " or ".join(["instr(body, ?)"] * len(marks))
        (count,) = database.execute(f"select count(*) from events where {held}", marks).fetchone()
        database.close()
    except sqlite3.Error as error:
        raise UserError(f"{path}: the journal cannot be read ({error})") from None
    return int(count)


def patterns(names: Sequence[str], ids: Sequence[str]) -> list[bytes]:
    """Bytes that only an event about, or naming, the person holds."""
    quoted = [encode_text(name) for name in names]
    return [f'"{key}":{text}'.encode() for text in quoted for key in ("person", "runner_up")] + [
        person_id.encode() for person_id in ids
    ]


def traces(path: Path, names: Sequence[str], ids: Sequence[str]) -> list[Path]:
    """Which of a journal's files hold such bytes, deleted or not."""
    files = (path, Path(f"{path}-wal"), *damaged_journals(path))
    return [file for file in files if file.exists() and holds(file, patterns(names, ids))]


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_S)
    database.execute("pragma secure_delete = on")
    return database


def _sightings_of(database: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    """The person's visits: what was told of them before there was a name holds only their numbers."""
    found: set[str] = set()
    for person in ids:
        query = "select body from events where topic glob 'sighting.*' and instr(body, ?)"
        for (body,) in database.execute(query, (f'"person":{encode_text(person)}'.encode(),)):
            with contextlib.suppress(ValueError, AttributeError, RecursionError):
                number = json.loads(body).get("sighting")
                if isinstance(number, str) and number:
                    found.add(number)
    return found


def _erase_page(database: sqlite3.Connection, first: int, last: int, marks: set[str], done: ErasedEvents) -> None:
    texts = [encode_text(mark)[1:-1].encode() for mark in marks]
    held = " or ".join(["instr(body, ?)"] * len(texts))
    query = f"select sequence, body from events where sequence between ? and ? and ({held})"
    database.execute("begin immediate")
    try:
        for sequence, body in database.execute(query, (first, last, *texts)).fetchall():
            rest = without(body, marks)
            if rest is None:
                database.execute("delete from events where sequence = ?", (sequence,))
                done.deleted += 1
            elif rest != body:
                database.execute("update events set body = ? where sequence = ?", (rest, sequence))
                done.blotted += 1
        database.execute("commit")
    except BaseException:
        database.execute("rollback")
        raise


def without(body: bytes, marks: set[str]) -> bytes | None:
    """An event without the person; None if it is about the person, or cannot be read."""
    try:
        event = json.loads(body)
        about = {event.get("person"), event.get("name")}
        about |= {event.get("sighting")} if event.get("type") == "stay" else set()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    if about & marks:
        return None
    changed = _blotted(event, marks)
    return encode_text(changed).encode() if changed != event else body


def _blotted(value: Any, marks: set[str], key: str = "") -> Any:
    if isinstance(value, dict):
        rest = {k: _blotted(v, marks, k) for k, v in value.items()}
        return rest | {"margin": None} if "margin" in rest and value.get("runner_up") in marks else rest
    if isinstance(value, list):
        return [_blotted(item, marks, key) for item in value]
    if key in ("runner_up", "previous") and value in marks:
        return "" if key == "runner_up" else None
    if key == "reason" and isinstance(value, str):
        for mark in marks:
            value = re.sub(rf"(?<!\w){re.escape(mark)}(?!\w)", BLOT, value)
    return value


def _settle(database: sqlite3.Connection) -> None:
    """Empty the log beside the file; whoever reads at the moment is waited for."""
    end = time.monotonic() + BUSY_S
    while database.execute("pragma wal_checkpoint(truncate)").fetchone()[0] and time.monotonic() < end:
        time.sleep(0.05)


def holds(file: Path, wanted: Sequence[bytes]) -> bool:
    """Are any of these bytes in the file? Read in pieces that overlap."""
    longest = max(map(len, wanted), default=1)
    tail = b""
    with open(file, "rb") as content:
        while piece := content.read(8 << 20):
            if any(mark in tail + piece for mark in wanted):
                return True
            tail = piece[-longest:]
    return False
