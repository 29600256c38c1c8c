"""Answers what was missed: `snapshot` tells what the journal holds, `range` sends events again. Rate-limited.

Requests and answers are documented in docs/events.md. Anything else is answered with an error and counted.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from personsearch.core.json_text import parse_json
from personsearch.runtime.delivery.events import SCHEMA_VERSION, encode_text
from personsearch.runtime.delivery.journal import Journal, JournalReader

log = logging.getLogger("personsearch.replay")
PAGE_EVENTS, PAGE_BYTES, PAGE_SCAN = 500, 512 * 1024, 20_000
REQUESTS_PER_S, BURST, PEERS = 100.0, 50.0, 1000
MAX_TOPICS, MAX_TOPIC = 64, 200
REQUESTS = ("snapshot", "range", "views", "names")
Names = Callable[[], dict[str, str]]  # id -> name of everybody enrolled
Views = Callable[[str, int], list[tuple[np.ndarray, float, str]]]  # camera, track -> embeddings, qualities, the model


class ReplayServer:
    """One thread around a bound ROUTER socket, with its own connection to the journal."""

    def __init__(self, socket: zmq.Socket, journal: Journal, views: Views | None = None) -> None:
        """views  gives the kept views of a track, for enrolment; None refuses such questions"""
        self._socket, self._journal, self.views = socket, journal, views
        self.names: Names | None = None  # None refuses such questions
        self._stop = threading.Event()
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # peer -> tokens, when
        self.answered = self.malformed = self.limited = self.replayed = 0
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        reader = JournalReader(self._journal.path)
        next_checkpoint = time.monotonic() + 1
        while not self._stop.is_set():
            try:
                if self._socket.poll(200):
                    for _ in range(100):
                        self._serve(reader, self._socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                pass
            except zmq.ZMQError as error:
                log.debug("replay socket: %s", error)
            if time.monotonic() >= next_checkpoint:
                self._journal.checkpoint(reader.database)
                next_checkpoint = time.monotonic() + 1
        reader.close()
        self._socket.close()

    def _serve(self, reader: JournalReader, parts: list[bytes]) -> None:
        """parts: the peer's id, perhaps an empty delimiter (REQ sockets), and the question."""
        envelope, body = parts[:-1], parts[-1]
        wait = self._wait_for(parts[0])
        if wait > 0:
            self.limited += 1
            answer: list[bytes] = [_head({"reply": "busy", "retry_after_s": round(max(wait, 0.001), 3)})]
        else:
            try:
                answer = self._answer(reader, _parse(body))
                self.answered += 1
            except ValueError as error:
                self.malformed += 1
                answer = [_head({"reply": "error", "error": str(error)[:300]})]
            except sqlite3.Error as error:
                log.warning("the journal cannot be read: %s", error)
                answer = [_head({"reply": "error", "error": "the journal cannot be read at the moment"})]
        self._socket.send_multipart([*envelope, *answer], zmq.NOBLOCK)

    def _wait_for(self, peer: bytes) -> float:
        """Seconds until this peer may ask again, 0 for now: a token bucket for each peer."""
        now = time.monotonic()
        tokens, when = self._buckets.pop(peer, (BURST, now))
        tokens = min(BURST, tokens + (now - when) * REQUESTS_PER_S)
        self._buckets[peer] = (max(0.0, tokens - 1), now)
        while len(self._buckets) > PEERS:
            self._buckets.popitem(last=False)
        return 0.0 if tokens >= 1 else (1 - tokens) / REQUESTS_PER_S

    def _answer(self, reader: JournalReader, question: dict[str, Any]) -> list[bytes]:
        first, last = reader.bounds()
        common = {"boot": self._journal.boot, "first": first, "last": last}
        if question["request"] == "views":
            return self._views_of(question)
        if question["request"] == "names":
            if self.names is None:
                raise ValueError("names are given to programs on this machine, or with encryption, only")
            return [_head({"reply": "names", "names": self.names()})]
        if question["request"] == "snapshot":
            return [_head({"reply": "snapshot", **common, "topics": reader.topics()})]
        bodies, going_on = reader.read(
            question["first"], min(question["last"], last), question["topics"], PAGE_EVENTS, PAGE_BYTES, PAGE_SCAN
        )
        self.replayed += len(bodies)
        return [_head({"reply": "range", **common, "count": len(bodies), "next": going_on}), *bodies]

    def _views_of(self, question: dict[str, Any]) -> list[bytes]:
        """Embeddings of a track, float32 one after the other: for `enroll.py --track` on the same machine."""
        if self.views is None:
            raise ValueError("views are given to programs on this machine only (a loopback or ipc replay endpoint)")
        found = self.views(question["camera"], question["track"])
        head = {"reply": "views", "count": len(found), "model": found[0][2] if found else "",
                "qualities": [round(quality, 4) for _, quality, _ in found]}  # fmt: skip
        return [_head(head), b"".join(row.astype(np.float32).tobytes() for row, _, _ in found)]


def _head(content: dict[str, Any]) -> bytes:
    return encode_text({"schema_version": SCHEMA_VERSION, **content}).encode()


def _parse(body: bytes) -> dict[str, Any]:
    """Raises ValueError for anything that is no question."""
    try:
        question = parse_json(body)
    except ValueError:
        raise ValueError("expected a JSON object") from None
    if not isinstance(question, dict) or question.get("request") not in REQUESTS:
        raise ValueError('expected {"request": "snapshot"} or {"request": "range", "first": N, "last": N}')
    if question["request"] == "range":
        for key in ("first", "last"):
            value = question.get(key)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
                raise ValueError(f"'{key}' must be a sequence number")
        topics = question.setdefault("topics", [""])
        good = isinstance(topics, list) and len(topics) <= MAX_TOPICS
        if not good or not all(isinstance(t, str) and len(t) <= MAX_TOPIC for t in topics):
            raise ValueError(f"'topics' must be a list of at most {MAX_TOPICS} prefixes")
    if question["request"] == "views":
        number = question.get("track")
        if not isinstance(question.get("camera"), str) or not isinstance(number, int) or isinstance(number, bool):
            raise ValueError("'camera' must be a name and 'track' a number")
    return question
