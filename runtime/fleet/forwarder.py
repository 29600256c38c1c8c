"""One sink's loop: find the place to go on from, send in order, keep the place, and try again when the sink is down."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from personsearch.core.redaction import redact
from personsearch.runtime.fleet.cursor import Cursor
from personsearch.runtime.fleet.feed import Feed
from personsearch.runtime.fleet.sink import Outgoing, Sink, SinkDown
from personsearch.runtime.fleet_settings import TlsSettings

log = logging.getLogger("personsearch.fleet")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
LOOK_S = 1.0  # ask the journal so often without being told of news


class Forwarder:
    """Sends what the journal has and gets to one sink."""

    def __init__(self, sink: Sink, settings: TlsSettings, feed: Feed, cursor: Cursor, rate: float) -> None:
        """rate  events a second at most"""
        self.sink, self.settings, self.feed, self.cursor, self.rate = sink, settings, feed, cursor, rate
        self.sent = self.outages = 0
        self.missed = 0  # forgotten by the journal before they could be sent
        self.ending = False  # end once everything is sent
        self._next = 0  # sequence to go on with; 0: not known yet
        self._down_since, self._reason = 0.0, ""

    async def run(self) -> None:
        """Until `ending` is set and all is sent. Outages are one line each, and one when they are over."""
        pause = FIRST_PAUSE_S
        while True:
            sent = self.sent
            try:
                held = await self.sink.open()
                self._next = 0
                await self._send_all(held)
                return
            except (SinkDown, OSError) as error:
                await self.sink.close()
                self._say_down(str(error))
                pause = FIRST_PAUSE_S if self.sent > sent else min(LONGEST_PAUSE_S, pause * 2)
                asked = getattr(error, "retry_after_s", 0.0)
                await asyncio.sleep(max(asked, pause * random.uniform(0.5, 1.0)))  # boxes must not return all at once

    async def _send_all(self, held: str) -> None:
        boot = ""
        while True:
            heard = self.feed.heard
            if not self._next:
                self._next = await self._place(held)
            page = await self.feed.page(self._next) if self._next else None
            if page and boot not in ("", page.boot):
                self._next, held, boot = 0, "", ""  # the box was started anew, perhaps with another journal
                continue
            boot = page.boot if page else boot
            if page is None or page.next <= self._next or page.last < self._next:
                if self.ending:
                    return
                await self.feed.news(heard, LOOK_S)
                continue
            if page.first > self._next:
                self.missed += page.first - self._next
                log.error(
                    "%s: the journal had forgotten %d events before they could be sent; "
                    "raise journal.keep_hours and max_mb",
                    self.sink.name, page.first - self._next,
                )  # fmt: skip
            await self._send(page.events)
            self._next = page.next

    async def _place(self, held: str) -> int:
        """The sequence to begin with: what the other side tells, else the file, else all. 0 if the box is silent."""
        for known in (held, self.cursor.load()):
            place = await self.feed.after(known) if known else 0
            if place is None:
                return 0
            if place:
                return place
        page = await self.feed.page(1, 1)
        return max(1, page.first) if page else 0

    async def _send(self, events: list[Outgoing]) -> None:
        wanted = [event for event in events if self.settings.wants(event.topic)]
        for start in range(0, len(wanted), self.sink.window):
            part = wanted[start : start + self.sink.window]
            began = time.monotonic()
            try:
                await self.sink.send(part)
            except SinkDown as error:
                if error.accepted:
                    self.sent += error.accepted
                    self.cursor.save(part[error.accepted - 1].id)
                raise
            self.sent += len(part)
            self.cursor.save(part[-1].id)
            self._say_up()
            await asyncio.sleep(max(0.0, len(part) / self.rate - (time.monotonic() - began)))
        if events and not (wanted and wanted[-1] is events[-1]):
            self.cursor.save(events[-1].id)

    def _say_down(self, reason: str) -> None:
        reason = redact(reason)
        if not self._down_since:
            self._down_since = time.monotonic()
            self.outages += 1
        if reason != self._reason:
            self._reason = reason
            log.warning("%s: %s; the journal keeps the events, and it is tried again", self.sink.name, reason)

    def _say_up(self) -> None:
        if self._down_since:
            log.info("%s: takes events again after %.1f s", self.sink.name, time.monotonic() - self._down_since)
            self._down_since, self._reason = 0.0, ""
