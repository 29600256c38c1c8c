"""Boxes by the hundred in one process: the real journal, answers, feed, forwarder, cursor and NATS sink of each, but no
cameras and sockets. What a box publishes are sightings as a stream makes them, of people who are not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.runtime.decisions.evidence import Decision
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.sighting import Evidence, Sighting, SightingChange, Stay
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.journal import Journal, JournalReader
from personsearch.runtime.delivery.replay import ReplayServer, _parse
from personsearch.runtime.fleet.cursor import Cursor
from personsearch.runtime.fleet.feed import Feed
from personsearch.runtime.fleet.forwarder import Forwarder
from personsearch.runtime.fleet.nats_sink import NatsSink
from personsearch.runtime.fleet_settings import NatsSettings, TlsSettings
from personsearch.runtime.settings import JournalSettings

NOBODY = Gallery("0123456789abcdef", 4)
DECISION = Decision("recognised", "", 0.71, 5.2, "", 0.2, 5, 0.8, 0.01, 0.6)
BOX = np.array([100.5, 200.5, 160.5, 380.5], np.float32)


class DirectFeed(Feed):
    """The feed, whose questions the journal's answers meet without a socket in between."""

    def __init__(self, journal: Journal) -> None:
        self._answers, self._reader = ReplayServer(None, journal), JournalReader(journal.path)  # type: ignore[arg-type]
        self.heard, self._changed = 0, asyncio.Event()

    def tell(self, count: int) -> None:
        """What `listen` does when live events come."""
        self.heard += count
        self._changed.set()
        self._changed = asyncio.Event()

    async def _ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]] | None:
        head, *bodies = self._answers._answer(self._reader, _parse(json.dumps(question).encode()))
        return json.loads(head), bodies

    def close(self) -> None:
        self._reader.close()


class Box:
    """made  events so far, over replacements; ids  what they are called, in their order"""

    def __init__(self, name: str, folder: Path, url: str, skew_s: float = 0.0) -> None:
        """skew_s  its clock goes wrong by so much"""
        self.name, self.folder, self.url, self.skew_s = name, folder, url, skew_s
        self.ids: list[str] = []
        self.outages = 0
        self._task: asyncio.Task[None] | None = None
        self._events = EventFactory(name, NOBODY.model_hash)

    def start(self) -> None:
        """A fresh program, on what the folder holds."""
        self.journal = Journal(self.folder / "events.journal", JournalSettings(keep_hours=1000, max_mb=1e6))
        self.feed = DirectFeed(self.journal)
        sink, cursor = NatsSink(NatsSettings(url=self.url), self.name), Cursor(self.folder / "state", "nats")
        self.forwarder = Forwarder(sink, TlsSettings(), self.feed, cursor, rate=1e6)
        self._task = asyncio.create_task(self.forwarder.run())

    async def stop(self) -> None:
        """As abruptly as a program that is killed; the journal is what was committed."""
        if self._task is not None:
            self.outages += self.forwarder.outages
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.forwarder.sink.close()
            self.feed.close()
            self.journal.close()
            self._task = None

    async def replace(self) -> None:
        """Another machine under the same name: a new journal that counts from one, and no position."""
        await self.stop()
        shutil.rmtree(self.folder)
        self.start()

    def publish(self, count: int) -> None:
        now = time.time() + self.skew_s
        events = [self._sighting(now) for _ in range(count)]
        first = self.journal.sequence + 1
        self.journal.append(events)
        self.ids += [f"{self.journal.boot}-{sequence}" for sequence in range(first, first + count)]
        self.feed.tell(count)

    def _sighting(self, now: float) -> dict[str, Any]:
        number = len(self.ids) % 4
        stay = Stay(f"camera{number}", now - 12, now, 17)
        seen = Sighting("s-0123456789abcdef", None, None, now - 12, now, [stay], person_id="p-0123456789ab")
        seen.best = Evidence(DECISION, stay.camera, 17, BOX)
        return self._events.sighting(SightingChange(seen, "ended", "left", stay.camera, track=17, box=BOX), NOBODY, now)

    @property
    def behind(self) -> int:
        """Events that the hub has not accepted."""
        position = self.forwarder.cursor.load()
        boot, _, sequence = position.rpartition("-")
        if boot != self.journal.boot and position not in self.ids:
            return self.journal.sequence
        return self.journal.sequence - int(sequence or 0)


@contextlib.contextmanager
def slow_disk(journal: Journal, busy_s: float) -> Any:
    """Somebody else holds the journal's database nearly all the time: each write of the box waits so long."""
    import sqlite3

    end = threading.Event()

    def hold() -> None:
        other = sqlite3.connect(journal.path, isolation_level=None, timeout=5)
        while not end.is_set():
            with contextlib.suppress(sqlite3.OperationalError):
                other.execute("begin immediate")
                end.wait(busy_s)
                other.execute("rollback")
            end.wait(busy_s / 10)
        other.close()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(10)
