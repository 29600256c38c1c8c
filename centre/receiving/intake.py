"""The hub's stream into the database: a durable consumer, batches in one transaction, acknowledged once committed.

What the database does not take is not acknowledged, and waits in the hub. What is no event is put aside and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError
from psycopg_pool import PoolTimeout

from personsearch.centre.codes.table import Codes
from personsearch.centre.database.days import Days
from personsearch.centre.database.pool import Pool
from personsearch.centre.database.store import take
from personsearch.centre.receiving.incoming import KINDS, Incoming, Refused, read
from personsearch.core.redaction import redact
from personsearch.runtime.fleet.nats_connection import ANSWER_S, Hub, close_quietly
from personsearch.runtime.fleet.nats_sink import DUPLICATES_S, ROOT
from personsearch.runtime.fleet.sealing import GroupKey

log = logging.getLogger("personsearch.centre")
BATCH, LOOK_S = 500, 1.0
ACK_WAIT_S = 60.0  # a batch that took longer is given again, and found to be there
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
LAG_EVERY_S = 5.0
DATABASE_S = 2.0  # so long to wait for a connection


class Down(Exception):
    """The hub or the database cannot be used now; says why."""


@dataclass
class Counts:
    """Since the start. refused and left_out are by cause; `waiting`: events that the hub has for us, -1 for unknown."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    outages: int = 0
    waiting: int = -1
    latest: float = 0.0  # unix seconds of the latest batch
    seconds: float = 0.0  # in the database


class Intake:
    def __init__(
        self, hub: Hub, pool: Pool, days: Days, codes: Codes, durable: str, boxes: frozenset[str],
        keys: list[GroupKey],
    ) -> None:  # fmt: skip
        """durable  name of the consumer, whose place the hub keeps"""
        self._hub, self._pool, self._days, self._codes, self._durable = hub, pool, days, codes, durable
        self._boxes, self._keys = boxes, keys
        self.counts = Counts()
        self.trouble = "not connected yet"
        self._told: set[str] = set()
        self._error, self._lost = "", asyncio.Event()

    async def run(self) -> None:
        """For ever, or until cancelled."""
        pause = FIRST_PAUSE_S
        while True:
            before = self.counts.received
            try:
                await self._session()
            except Down as error:
                self._say_down(str(error))
                pause = FIRST_PAUSE_S if self.counts.received > before else min(LONGEST_PAUSE_S, 2 * pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _session(self) -> None:
        self._error, self._lost = "", asyncio.Event()
        try:
            connection = await self._hub.connect(self._on_error, self._on_lost)
        except Exception as error:  # the libraries for keys and the protocol raise all kinds of things
            raise Down(f"cannot reach the hub ({self._error or error or type(error).__name__})") from None
        try:
            reader = await self._reader(connection)
            next_lag = 0.0
            while not self._lost.is_set():
                if time.monotonic() >= next_lag:
                    next_lag = time.monotonic() + LAG_EVERY_S
                    self.counts.waiting = (await reader.consumer_info()).num_pending
                try:
                    messages = await reader.fetch(BATCH, timeout=LOOK_S)
                except (NatsTimeout, asyncio.TimeoutError):
                    messages = []
                if messages:
                    await self._take(connection, messages)
                self._say_up()
            raise Down(self._error or "the connection to the hub was lost")
        except Down:
            raise
        except (psycopg.Error, PoolTimeout) as error:
            raise Down(f"the database takes nothing ({' '.join(str(error).split())[:200]})") from None
        except Exception as error:
            expected = NatsTimeout | APIError | OSError | asyncio.TimeoutError
            if not self._lost.is_set() and not isinstance(error, expected):
                log.exception("a batch could not be taken")
            text = getattr(error, "description", "") or str(error) or type(error).__name__
            raise Down(f"the hub does not answer ({self._error or text})") from None
        finally:
            await close_quietly(connection)

    async def _reader(self, connection: Connection) -> Any:
        stream, name = connection.jetstream(timeout=ANSWER_S), self._hub.settings.stream
        if self._hub.settings.create_stream:
            wanted = StreamConfig(
                name=name, subjects=[f"{ROOT}.>"], duplicate_window=DUPLICATES_S, allow_direct=True
            )  # fmt: skip
            with contextlib.suppress(BadRequestError):  # it is there, with settings of its own
                await stream.add_stream(wanted)
        subjects = [f"{ROOT}.*.{kind}{end}" for kind in KINDS for end in ("", ".>")]
        consumer = ConsumerConfig(
            durable_name=self._durable, filter_subjects=subjects, ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S,
            max_ack_pending=4 * BATCH,
        )  # fmt: skip
        try:
            await stream.add_consumer(name, consumer)
        except NotFoundError:
            raise Down(f"the hub has no stream {name}; make it, or set nats.create_stream") from None
        return await stream.pull_subscribe_bind(self._durable, stream=name)

    async def _take(self, connection: Connection, messages: list[Msg]) -> None:
        counts = self.counts
        events: list[Incoming] = []
        for message in messages:
            try:
                events.append(read(message.subject, message.data, self._boxes, self._keys))
            except Refused as fault:
                counts.refused[fault.cause] += 1
                self._say_once(f"an event is not taken: {fault}")
        started = time.monotonic()
        try:
            await self._store(events)
        except BaseException:
            for message in messages:  # or the hub would wait for ACK_WAIT_S before it gives them again
                with contextlib.suppress(Exception):
                    await message.nak()
            raise
        counts.seconds += time.monotonic() - started
        counts.received += len(messages)
        counts.latest = time.time()
        for message in messages:
            await message.ack()
        await connection.flush()

    async def _store(self, events: list[Incoming]) -> None:
        """What the database refuses for what it holds (no program of ours makes such) must not hold up the others: then
        each half is tried by itself."""
        counts = self.counts
        try:
            async with self._pool.connection(DATABASE_S) as database:
                taken = await take(database, self._days, events, datetime.datetime.now(datetime.timezone.utc))
        except (psycopg.DataError, psycopg.IntegrityError, ValueError) as error:
            if len(events) == 1:
                counts.refused["database"] += 1
                self._say_once(f"an event of box '{events[0].box}' is not taken: {' '.join(str(error).split())[:200]}")
                return
            for half in (events[: len(events) // 2], events[len(events) // 2 :]):
                await self._store(half)
            return
        counts.stored += taken.new
        counts.duplicates += taken.duplicates
        counts.left_out.update(taken.left_out)
        await self._codes.add(taken.stays, taken.versions)

    async def _on_error(self, error: Exception) -> None:
        self._error = str(error)

    async def _on_lost(self) -> None:
        self._lost.set()

    def _say_once(self, text: str) -> None:
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            log.warning("%s", redact(text))

    def _say_down(self, reason: str) -> None:
        reason = redact(reason)
        if not self.trouble:
            self.counts.outages += 1
        if reason != self.trouble:
            log.warning("%s; the hub keeps the events, and it is tried again", reason)
        self.trouble = reason

    def _say_up(self) -> None:
        if self.trouble:
            log.info("events are taken from the hub")
            self.trouble = ""
