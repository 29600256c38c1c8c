"""The outbox: reads the journal through the box's replay socket, in the order of `sequence`, from any place on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import zmq
import zmq.asyncio

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json
from personsearch.runtime.delivery.endpoints import connect, needs_ipv6
from personsearch.runtime.delivery.events import HEARTBEAT, read_event, topic_of
from personsearch.runtime.fleet.sink import Outgoing
from personsearch.runtime.keys import identify

ANSWER_S = 5.0
END = (1 << 62) - 1


@dataclass(frozen=True)
class Page:
    """Events in order; `first` and `last` are what the journal has, `next` where to go on."""

    events: list[Outgoing]
    boot: str
    first: int
    last: int
    next: int


class Feed:
    """Questions to one box; several readers may share it within one event loop."""

    def __init__(self, endpoint: str, replay: str, keys: tuple[bytes, bytes, bytes] | None = None) -> None:
        """keys  public and secret key of ours, and the box's public one. Raises UserError for what is no endpoint."""
        self._context, self._replay, self._keys = zmq.asyncio.Context(), replay, keys
        self._dealer: zmq.asyncio.Socket | None = None
        self._lock = asyncio.Lock()
        self.heard = 0  # live events so far
        self._changed = asyncio.Event()
        try:
            self._live = self._socket(zmq.SUB, endpoint)
            self._live.subscribe("")
        except UserError:
            self._context.destroy(linger=0)
            raise

    def _socket(self, kind: int, endpoint: str) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, needs_ipv6(endpoint))
        socket.setsockopt(zmq.MAXMSGSIZE, 4 << 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        socket.setsockopt(zmq.RCVHWM, 1000)
        if self._keys:
            identify(socket, self._keys)
        connect(socket, endpoint)
        return socket

    async def listen(self) -> None:
        """For ever: live events only say that there is something to ask for."""
        while True:
            topic, *_ = await self._live.recv_multipart()
            if topic != HEARTBEAT:
                self.heard += 1
                self._changed.set()
                self._changed = asyncio.Event()

    async def news(self, known: int, timeout_s: float) -> None:
        """Wait until more was `heard` than is known, and a moment more for what comes with it; or the time is over."""
        if self.heard == known:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        await asyncio.sleep(0.02)

    async def page(self, first: int, last: int = END) -> Page | None:
        """Events with first <= sequence <= last, 500 at most. None if the box does not answer (now)."""
        answer = await self._ask({"request": "range", "first": first, "last": last})
        if answer is None:
            return None
        head, bodies = answer
        events = [event for event in map(_outgoing, bodies) if event]
        return Page(events, str(head["boot"]), int(head["first"]), int(head["last"]), int(head["next"]))

    async def names(self) -> dict[str, str]:
        """Id -> name of the enrolled, {} if the box does not tell."""
        answer = await self._ask({"request": "names"})
        names = answer[0].get("names") if answer else None
        return {str(i): str(n) for i, n in names.items()} if isinstance(names, dict) else {}

    async def after(self, event_id: str) -> int | None:
        """Where to go on after this event: the sequence number behind it, or 0 if this journal is another one and never
        had it. None if the box does not answer. A journal that lost its end in a power cut has numbered other events
        with the same numbers: then it goes on behind the last event of the same boot that is left."""
        boot, _, text = event_id.rpartition("-")
        place = int(text)
        page = await self.page(place, place)
        if page is None:
            return None
        if not page.last:  # empty: all was forgotten, or it is a new one, of another disk
            numbered = await self._numbered()
            return None if numbered is None else place + 1 if numbered >= place else 0
        if any(event.id == event_id for event in page.events) or page.first > place:
            return place + 1  # it is there, or was forgotten since
        found, going_on = 0, page.first
        while going_on <= page.last:
            part = await self.page(going_on)
            if part is None:
                return None
            found = max([found, *(event.sequence for event in part.events if event.id.startswith(f"{boot}-"))])
            going_on = max(part.next, going_on + 1)
        return found + 1 if found else 0

    async def _numbered(self) -> int | None:
        """How many events the journal has numbered so far, kept or not: each counts in one topic."""
        answer = await self._ask({"request": "snapshot"})
        return sum(map(int, answer[0]["topics"].values())) if answer else None

    async def _ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]] | None:
        async with self._lock:
            while True:
                if self._dealer is None:
                    self._dealer = self._socket(zmq.DEALER, self._replay)
                try:
                    await asyncio.wait_for(self._dealer.send(json.dumps(question).encode()), ANSWER_S)
                    head_text, *bodies = await asyncio.wait_for(self._dealer.recv_multipart(), ANSWER_S)
                except asyncio.TimeoutError:
                    self._dealer.close()  # an answer that comes later must not be taken for the next one's
                    self._dealer = None
                    return None
                try:
                    head = parse_json(head_text)
                    if head["reply"] != "busy":
                        return None if head["reply"] == "error" else (head, bodies)
                    wait = float(head["retry_after_s"])
                except (ValueError, LookupError, TypeError):  # another program answers
                    return None
                await asyncio.sleep(max(0.0, min(1.0, wait)))

    def close(self) -> None:
        self._context.destroy(linger=0)


def _outgoing(body: bytes) -> Outgoing | None:
    """None for what is no event: SQLite keeps anything that somebody put into the file."""
    try:
        event = read_event(body)
        return Outgoing(event["sequence"], str(event["id"]), topic_of(event), body, event)
    except (ValueError, LookupError):
        return None
