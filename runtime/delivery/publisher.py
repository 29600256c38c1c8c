"""Delivery: number, keep, send. One thread takes events from the pipeline, commits them to the journal in groups
and sends them on a PUB socket; heartbeats tell the latest numbers; a ROUTER socket (replay.py) answers questions.

Nothing here ever waits for a subscriber: what a slow one misses, it asks for.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import zmq

from personsearch.runtime.delivery.endpoints import bind, needs_ipv6
from personsearch.runtime.delivery.events import HEARTBEAT, SCHEMA_VERSION, encode_text, iso_time
from personsearch.runtime.delivery.journal import Journal
from personsearch.runtime.delivery.replay import Names, ReplayServer, Views
from personsearch.runtime.delivery.temporary import temporary_journal
from personsearch.runtime.keys import Guard
from personsearch.runtime.settings import JournalSettings, PublishSettings

log = logging.getLogger("personsearch.publisher")
HIGH_WATER_MARK = 10_000  # events kept for a slow subscriber before it loses some (and replays them)
HEARTBEAT_S = 1.0
GROUP = 2000  # events in one commit at most
WAITING = 200_000  # events that may wait for the writer; more than this is a bug or a dying disk


class Publisher:
    """Binds at once and raises UserError if a port is taken. `endpoint` and `replay_endpoint` are the real ones."""

    def __init__(self, settings: PublishSettings, journal: JournalSettings | None = None, box: str = "") -> None:
        self.settings, self.box = settings, box
        journal = journal or JournalSettings()
        path = Path(journal.path) if journal.path else temporary_journal()
        self._temporary = None if journal.path else path.parent
        self._locks: list[TextIO] = []
        self.guard: Guard | None = None
        self._context = zmq.Context()
        try:
            self.journal = Journal(path, journal)
        except BaseException:
            self._remove_temporary()
            raise
        try:
            self.guard = Guard(settings.keys) if settings.keys else None
            if self.guard:
                self.guard.start(self._context)
            self._socket, self.endpoint = self._bind(zmq.PUB, settings.endpoint, "publish.endpoint")
            wanted = settings.replay or next_endpoint(self.endpoint, settings.endpoint)
            router, self.replay_endpoint = self._bind(zmq.ROUTER, wanted, "publish.replay")
        except BaseException:
            self._release(linger=0)
            raise
        self.replay = ReplayServer(router, self.journal)
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.sent = self.refused_by_queue = 0
        self.cpu_s = 0.0  # of the writer thread
        self.alive = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()
        self.replay.start()

    def _bind(self, kind: int, endpoint: str, key: str) -> tuple[zmq.Socket, str]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.MAXMSGSIZE, 65536)  # of what comes in: subscriptions and questions are small
        socket.setsockopt(zmq.IPV6, needs_ipv6(endpoint))
        socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)  # half-open connections of vanished subscribers end
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 60_000)
        if kind == zmq.PUB:
            socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        if self.guard:
            self.guard.protect(socket)
        lock = bind(socket, endpoint, key)
        if lock is not None:
            self._locks.append(lock)
        return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def serve_views(self, views: Views) -> None:
        """Answer questions for the views of tracks, but to programs on this machine only."""
        if self.settings.loopback:
            self.replay.views = views

    def serve_names(self, names: Names) -> None:
        """Answer questions for the names of people, whose ids stand in events: to programs on this machine, and to
        those that have a key."""
        if self.settings.loopback or self.guard is not None:
            self.replay.names = names

    def publish(self, event: dict[str, Any]) -> None:
        """Hand over an event; it is numbered, kept and sent by another thread, in order."""
        if self._queue.qsize() > WAITING:
            self.refused_by_queue += 1
            return
        self._queue.put(event)

    def close(self) -> None:
        """Send what is waiting and close. Safe to call once."""
        self._queue.put(None)
        self._thread.join(10)
        self.replay.stop()
        self._release(linger=500)

    def _release(self, linger: int) -> None:
        if self.guard:
            self.guard.stop()
        self._context.destroy(linger=linger)
        for lock in self._locks:
            lock.close()
        self.journal.close()
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    # --- the writer thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_beat = 0.0
        while True:
            now = time.monotonic()
            self.alive = now
            if now >= next_beat:
                next_beat = now + HEARTBEAT_S
                self._beat()
            try:
                events = [self._queue.get(timeout=max(0.0, next_beat - now))]
            except queue.Empty:
                continue
            while len(events) < GROUP and events[-1] is not None:
                try:
                    events.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            group = [event for event in events if event is not None]
            try:
                for message in self.journal.append(group):
                    self._socket.send_multipart(message, copy=True)
                    self.sent += 1
            except Exception:
                log.exception("a group of %d events could not be sent", len(group))
            self.cpu_s = time.thread_time()
            if events[-1] is None:
                self._beat()
                return

    def _beat(self) -> None:
        self.journal.flush()
        beat = {
            "schema_version": SCHEMA_VERSION,
            "type": "heartbeat",
            "box": self.box,
            "boot": self.journal.boot,
            "time": iso_time(time.time()),
            "sequence": self.journal.sequence,
            "topics": self.journal.topics,
            "replay": self.replay_endpoint.rpartition(":")[2],
        }
        self._socket.send_multipart([HEARTBEAT, encode_text(beat).encode()])


def next_endpoint(bound: str, wanted: str) -> str:
    """Where the replay socket goes if nothing else is said: the next port, or any free one for `*` and 0."""
    base, _, port = bound.rpartition(":")
    if bound.startswith("ipc://"):
        return f"{bound}.replay"
    return f"{base}:*" if wanted.endswith((":*", ":0")) else f"{base}:{int(port) + 1}"
