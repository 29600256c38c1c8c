"""The listening half of a client: a thread that empties the SUB socket at once, whatever its caller does."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from personsearch.runtime.delivery.events import HEARTBEAT, read_event

Item = tuple[str, dict[str, Any]]  # topic and event, or heartbeat
ROOM = 20_000


class Inbox:
    """Keeps what came, in order, up to `room` items; what comes then is dropped here, and replayed when it is missed.

    known  topic -> the latest number heard of, whether or not its event was kept
    heard  monotonic seconds when anything came last, 0 for never
    full   monotonic seconds when something was dropped last, 0 for never
    """

    def __init__(self, socket: zmq.Socket, topics: Sequence[str], room: int) -> None:
        """socket  a connected SUB socket; from now on the thread's own"""
        self.known: dict[str, int] = {}
        self.heard = self.full = 0.0
        self.malformed = 0
        self._socket, self._topics, self._room = socket, tuple(topics), room
        self._items: deque[Item] = deque()
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="subscriber", daemon=True)
        self._thread.start()

    def take(self, wait_s: float) -> Item | None:
        """The oldest item, or None if none came within the time."""
        with self._news:
            if not self._items and wait_s > 0:
                self._news.wait(wait_s)
            return self._items.popleft() if self._items else None

    def close(self) -> None:
        self._stop.set()
        self._thread.join(2)

    def _listen(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(100):
                continue
            messages: list[list[bytes]] = []
            try:
                while len(messages) < 1000:
                    messages.append(self._socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                pass
            items = [item for parts in messages if (item := self._parse(parts))]
            with self._news:
                self.heard = time.monotonic()
                room = self._room - len(self._items)
                if room < len(items):
                    self.full = self.heard
                self._items.extend(items[:room])
                self._news.notify()

    def _parse(self, parts: list[bytes]) -> Item | None:
        """None, and counted, for anything that is no event of ours."""
        try:
            topic, event = parts[0].decode(), read_event(parts[-1])
            if topic == HEARTBEAT.decode():
                self.known.update({t: n for t, n in event["topics"].items() if t.startswith(self._topics)})
            else:
                self.known[topic] = max(self.known.get(topic, 0), event["topic_sequence"])
            return topic, event
        except (ValueError, KeyError):
            self.malformed += 1
            return None
