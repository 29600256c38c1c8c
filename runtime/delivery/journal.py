"""The journal numbers every event and keeps it on disk, so that whoever missed it can ask for it again.

SQLite in WAL mode: one writer (the publisher's thread), any number of readers (`JournalReader`, one per thread).
A killed process loses nothing that was committed; a power cut may lose the last seconds unless `power_safe` is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import sqlite3
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.core.files import is_mount, real_path
from personsearch.runtime.delivery.events import encode_text, topic_of
from personsearch.runtime.settings import JournalSettings

log = logging.getLogger("personsearch.journal")
TABLES = """
create table if not exists events(
  sequence integer primary key, topic text not null, topic_sequence integer not null, wall real not null, body blob);
create table if not exists topics(topic text primary key, last integer not null) without rowid;
create table if not exists numbers(name text primary key, value integer not null) without rowid;
"""
BACKLOG = 20_000  # events kept in memory while the disk refuses them
TRIM_EVERY_S, TRIM_ROWS = 0.5, 2000
BIG_WAL, TRUNCATE_EVERY_S = 64 << 20, 60.0  # the log beside the file holds what was deleted until it is cut off
SECURE = 1  # `user_version` of a file in which every deleted row was overwritten

Message = tuple[bytes, bytes]  # topic and body as sent


class Journal:
    """Raises UserError if the file cannot be opened or another process writes it.

    boot      32 hexadecimal digits, new with each start
    sequence  number of the latest event of this box, over all starts
    topics    topic -> number of its latest event
    failing   why the disk refuses events at the moment, or ""
    """

    def __init__(self, path: str | Path, settings: JournalSettings) -> None:
        self.path, self.settings = Path(path), settings
        self.boot = uuid.uuid4().hex
        self.failing = ""
        self.not_kept = 0  # events that were published, but fell out of the backlog before the disk took them
        self._backlog: deque[tuple[int, str, int, float, bytes]] = deque()
        self._next_trim = self._next_truncate = 0.0
        try:
            self.path = real_path(path)  # two names of one file are one journal
            if is_mount(self.path):
                raise UserError(
                    f"{path}: is a mounted file; mount its folder, because SQLite keeps two more files beside it"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(f"{self.path}.lock", "a")  # noqa: SIM115 - held as long as the journal
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(
                f"{self.path}: another stream writes this journal; give each its own `journal.path`"
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.path}: the journal cannot be written ({error.strerror}); set another journal.path"
            ) from None
        self._remove_damaged()
        try:
            self._database = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise UserError(
                    f"{self.path}: the journal cannot be opened ({error}); set another journal.path"
                ) from None
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            os.replace(self.path, aside)
            for suffix in ("-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            log.error("%s was damaged (%s); it was moved to %s and a new journal begun", self.path, error, aside)
            self._database = self._open()
        self.topics: dict[str, int] = dict(self._database.execute("select topic, last from topics"))
        last = self._database.execute("select value from numbers where name = 'sequence'").fetchone()
        self.sequence: int = last[0] if last else 0

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        os.chmod(self.path, 0o600)  # names of people: the owner's business only
        database.execute("pragma auto_vacuum = incremental")
        database.execute("pragma secure_delete = on")  # what is forgotten is overwritten, not just unlinked
        database.execute("pragma journal_mode = wal")
        database.execute(f"pragma synchronous = {'full' if self.settings.power_safe else 'normal'}")
        database.execute("pragma wal_autocheckpoint = 0")  # `checkpoint` does it, outside the writer's way
        database.executescript(TABLES)
        try:
            database.execute("select sequence, topic, topic_sequence, wall, body from events limit 1")
            numbers = [*database.execute("select last from topics"), *database.execute("select value from numbers")]
            texts = database.execute("select topic from topics").fetchall()
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: a database, but no journal ({error}); choose another journal.path") from None
        good = all(isinstance(n, int) and 0 <= n < 1 << 62 for (n,) in numbers)
        if not good or not all(isinstance(topic, str) for (topic,) in texts):
            raise sqlite3.DatabaseError("its numbers are none")
        self._clean_once(database)
        return database

    def _clean_once(self, database: sqlite3.Connection) -> None:
        """A journal from before rows were overwritten is written anew, so that nothing deleted is left in it."""
        if database.execute("pragma user_version").fetchone()[0] >= SECURE:
            return
        try:
            database.execute("vacuum")
            database.execute(f"pragma user_version = {SECURE}")
            database.execute("pragma wal_checkpoint(truncate)")
        except sqlite3.OperationalError as error:  # a full disk: the next start tries again
            log.warning("%s: events deleted by earlier versions are still in the file (%s)", self.path, error)

    def _remove_damaged(self) -> None:
        """A damaged journal that was moved aside holds names, and no longer than a good one may."""
        for aside in damaged_journals(self.path):
            with contextlib.suppress(OSError):
                if time.time() - aside.stat().st_mtime > self.settings.keep_hours * 3600:
                    aside.unlink()

    def append(self, events: list[dict[str, Any]]) -> list[Message]:
        """Number the events, keep them in one transaction, and give what is to be sent.

        Never raises for a full or broken disk: live events go on, and the disk gets them as soon as it can.
        """
        messages: list[Message] = []
        wall, boot, topics, sequence = time.time(), self.boot, self.topics, self.sequence
        for event in events:
            topic = topic_of(event)
            number = topics.get(topic, 0) + 1
            stamp = {"id": f"{boot}-{sequence + 1}", "boot": boot, "sequence": sequence + 1, "topic_sequence": number}
            try:
                body = encode_text(stamp | event).encode()
            except ValueError as error:  # a fault of ours must not take the others along
                log.error("an event of %s is left out, as it is no JSON: %s", topic, error)
                continue
            sequence, topics[topic] = sequence + 1, number
            messages.append((topic.encode(), body))
            self._backlog.append((sequence, topic, number, wall, body))
        self.sequence = sequence
        self.flush()
        return messages

    def flush(self) -> None:
        """Write what is waiting. Called with each batch, and again every second while the disk refuses."""
        if not self._backlog:
            self._trim()  # events grow old while nothing happens, too
            return
        rows = list(self._backlog)
        last = {row[1]: row[2] for row in rows}
        try:
            self._database.execute("begin immediate")
            self._database.executemany("insert into events values (?, ?, ?, ?, ?)", rows)
            self._database.executemany("insert or replace into topics values (?, ?)", last.items())
            self._database.execute("insert or replace into numbers values ('sequence', ?)", (rows[-1][0],))
            self._database.execute("commit")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("rollback")
            if not self.failing:
                log.error("%s: the journal cannot be written (%s); live events go on", self.path, error)
            self.failing = str(error)
            while len(self._backlog) > BACKLOG:
                self._backlog.popleft()
                self.not_kept += 1
            self._trim(force=True)  # a full disk may have room again once the oldest events are gone
            return
        if self.failing:
            log.warning("%s: the journal can be written again", self.path)
            self.failing = ""
        self._backlog.clear()
        self._trim()

    def _trim(self, force: bool = False) -> None:
        """Forget the oldest events, some at a time, so that no batch waits long."""
        now = time.monotonic()
        if now < self._next_trim and not force:
            return
        self._next_trim = now + TRIM_EVERY_S
        try:
            if self.used_bytes() > self.settings.max_mb * 1e6:
                limit = "select max(sequence) from (select sequence from events order by sequence limit ?)"
                bound = self._database.execute(limit, (TRIM_ROWS,)).fetchone()[0]
                self._next_trim = now  # and go on with the next batch
            else:
                limit = """select max(sequence) from (select sequence, wall from events order by sequence limit ?)
                    where wall < ?"""
                oldest = time.time() - self.settings.keep_hours * 3600
                bound = self._database.execute(limit, (TRIM_ROWS, oldest)).fetchone()[0]
            if bound is not None:
                self._database.execute("delete from events where sequence <= ?", (bound,))
        except sqlite3.Error as error:
            log.debug("trimming: %s", error)

    def used_bytes(self) -> int:
        """Bytes of the pages in use."""
        pages = self._database.execute("pragma page_count").fetchone()[0]
        free = self._database.execute("pragma freelist_count").fetchone()[0]
        return (pages - free) * 4096

    def checkpoint(self, database: sqlite3.Connection) -> None:
        """Move committed pages from the log into the file; called by another thread with its own connection."""
        size, now = 0, time.monotonic()
        with contextlib.suppress(OSError):  # there is none yet
            size = os.stat(f"{self.path}-wal").st_size
        truncate = size > BIG_WAL or (size > 0 and now >= self._next_truncate)
        try:
            busy, _, _ = database.execute(f"pragma wal_checkpoint({'truncate' if truncate else 'passive'})").fetchone()
            if truncate and not busy:
                self._next_truncate = now + TRUNCATE_EVERY_S
        except sqlite3.Error as error:
            log.debug("checkpoint: %s", error)

    def close(self) -> None:
        self.flush()
        try:
            self._database.execute("pragma wal_checkpoint(truncate)")
            self._database.close()
        except sqlite3.Error as error:
            log.error("%s: closing the journal: %s", self.path, error)
        self._lock.close()


def damaged_journals(path: Path) -> list[Path]:
    """Journals that were moved aside because they could not be read."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.damaged-*"))


class JournalReader:
    """Reads ranges of the journal; one per thread, beside the writer."""

    def __init__(self, path: str | Path) -> None:
        self.database = sqlite3.connect(path, isolation_level=None, timeout=1)

    def bounds(self) -> tuple[int, int]:
        """Sequence numbers of the oldest and the latest event kept; (0, 0) for none."""
        first, last = self.database.execute("select min(sequence), max(sequence) from events").fetchone()
        return first or 0, last or 0

    def topics(self) -> dict[str, int]:
        return dict(self.database.execute("select topic, last from topics"))

    def read(
        self, first: int, last: int, prefixes: list[str], limit: int, max_bytes: int, scan: int
    ) -> tuple[list[bytes], int]:
        """Bodies of the events with first <= sequence <= last whose topic begins with one of `prefixes`.

        Looks at `scan` events at most. Gives the bodies and the sequence number to go on with.
        """
        query = "select sequence, topic, body from events where sequence between ? and ? order by sequence limit ?"
        bodies: list[bytes] = []
        size, going_on = 0, last + 1
        for seen, (sequence, topic, body) in enumerate(self.database.execute(query, (first, last, scan)), start=1):
            ours = isinstance(body, bytes) and isinstance(topic, str)  # SQLite keeps any kind of value in any column
            if ours and topic.startswith(tuple(prefixes)):
                bodies.append(body)
                size += len(body)
            if len(bodies) >= limit or size >= max_bytes or seen == scan:
                going_on = sequence + 1
                break
        return bodies, going_on

    def close(self) -> None:
        self.database.close()


def latest_of_sighting(path: Path, sighting: str) -> dict[str, Any] | None:
    """The latest event of a visit, from a journal that a stream writes; None if it has none (any more). Raises
    UserError if it cannot be read."""
    query = "select body from events where topic glob 'sighting.*' and instr(body, ?) order by sequence desc limit 1"
    try:
        with contextlib.closing(JournalReader(path)) as reader:
            row = reader.database.execute(query, (f'"sighting":{encode_text(sighting)}'.encode(),)).fetchone()
    except sqlite3.Error as error:
        raise UserError(f"{path}: the journal cannot be read ({error})") from None
    return json.loads(row[0]) if row else None
