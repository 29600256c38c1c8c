"""What the page knows of the stream: questions over the control socket, and events over the client that every
subscriber uses."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import zmq

from personsearch.core.errors import UserError
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.person import ID, derived_id

log = logging.getLogger("personsearch.page")
KEPT_EVENTS = 20_000
LATE_S = 3.0  # beyond the time that a question may wait at the stream
Event = dict[str, Any]


class StreamError(UserError):
    """The stream did not answer, or refused."""


class Control:
    """The asking end of `operations/control.py`; made and used in one event loop.

    The loop watches the socket's descriptor itself: zmq.asyncio makes several futures of each message, which at fifty
    pictures a second cost more than all the rest.
    """

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._descriptor, self._read)

    async def ask(self, request: str, wait_s: float = 5.0, **facts: Any) -> tuple[dict[str, Any], bytes]:
        """The answer's head and body. Raises StreamError if none comes, or the stream refuses."""
        number = next(self._numbers)
        future = self._open[number] = self._loop.create_future()
        try:
            question = {"id": number, "request": request, "wait_s": wait_s, **facts}
            self._socket.send(json.dumps(question).encode(), zmq.NOBLOCK)
            self._loop.call_soon(self._read)  # the descriptor tells changes only, and sending may have used one up
            head, body = await asyncio.wait_for(future, wait_s + LATE_S)
        except (asyncio.TimeoutError, zmq.Again):
            raise StreamError("the stream does not answer; is it still running?") from None
        finally:
            self._open.pop(number, None)
        if head["reply"] == "error":
            raise StreamError(str(head["error"]))
        return head, body

    async def picture(self, camera: str, **how: Any) -> tuple[dict[str, Any], bytes] | None:
        """The next frame with its people as JPEG, or None if none came in time."""
        head, body = await self.ask("picture", camera=camera, **how)
        return (head, body) if head["reply"] == "picture" else None

    async def correct(self, sighting: str, was: str | None, person: str | None) -> str:
        """What comes of it, see `operations/corrections.py`. Raises StreamError."""
        head, _ = await self.ask("correct", sighting=sighting, was=was, person=person)
        return str(head["done"])

    def _read(self) -> None:
        """All that is there."""
        while not self._socket.closed:
            try:
                head, body = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            content = json.loads(head)
            future = self._open.get(content["id"])
            if future is not None and not future.done():
                future.set_result((content, body))

    async def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._context.destroy(linger=0)


def _id(person: Any) -> str:
    text = person if isinstance(person, str) else ""
    return text if not text or ID.fullmatch(text) else derived_id(text)


class Events:
    """The box's events: those that it still has, then each as it comes. Its users live in one event loop."""

    def __init__(self, endpoint: str, replay: str, key: str = "", server_key: str = "") -> None:
        """Raises UserError as Client does."""
        self.kept: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.listeners: list[Callable[[Event], None]] = []
        self.silent_s = float("inf")
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Condition()
        self._client = Client(endpoint, since="kept", replay=replay, key=key, server_key=server_key)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            batch = []
            event = self._client.receive(1.0)
            while event is not None:
                batch.append(event)
                event = self._client.receive(0) if len(batch) < 500 else None
            self.silent_s = self._client.status().silent_s
            if batch:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    asyncio.run_coroutine_threadsafe(self._take(batch), self._loop)

    async def _take(self, batch: list[Event]) -> None:
        for event in batch:
            self.kept.append(event)
            for listener in self.listeners:
                try:
                    listener(event)
                except (KeyError, TypeError, ValueError) as error:  # of a box that speaks another version
                    log.warning("an event of type %s is not understood (%s)", event.get("type"), error)
        async with self._news:
            self._news.notify_all()

    async def after(self, sequence: int | None, every_s: float) -> AsyncIterator[list[Event]]:
        """Events after a number (None: from now on), in parts; an empty part when none came for so long."""
        last = sequence if sequence is not None else (self.kept[-1]["sequence"] if self.kept else 0)
        while True:
            fresh: list[Event] = []
            for event in reversed(self.kept):
                if event["sequence"] <= last:
                    break
                fresh.append(event)
            if not fresh:
                try:
                    async with self._news:
                        await asyncio.wait_for(self._news.wait(), every_s)
                except asyncio.TimeoutError:
                    yield []
                continue
            last = fresh[0]["sequence"]
            yield fresh[::-1]

    def forget(self, people: Collection[str]) -> None:
        """Drop events about people who were erased, by id (of a name its derived one)."""
        marks = set(people)
        kept = [e for e in self.kept if not marks & {_id(e.get(key)) for key in ("person", "previous", "runner_up")}]
        self.kept.clear()
        self.kept.extend(kept)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(3)
        self._client.close()
