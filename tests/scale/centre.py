#!/usr/bin/env python
"""A centre that only counts: takes sightings from NATS JetStream and keeps each once. A process that may be killed.

    python tests/scale/centre.py --url nats://127.0.0.1:4222 --store FILE [--slow 0.05] [--lose-acks 0.1]

`Store` is what it keeps them in: here SQLite, so that a kill -9 shows what was kept; the centre's own can stand here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError

BATCH, ACK_WAIT_S = 500, 2.0


@dataclass(frozen=True)
class Received:
    """id  of the event, unique for ever; place  in the stream"""

    id: str
    place: int
    body: bytes
    received: float  # unix seconds


class Store(Protocol):
    def take(self, events: list[Received]) -> None:
        """Durable when it returns; what it has already is left out."""


class CountingStore:
    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=20)
        self._database.executescript(
            """pragma journal_mode = wal; pragma synchronous = normal;
            create table if not exists events(
              id text primary key, box text, sequence integer, place integer, made text, received real) without rowid;
            create table if not exists delivered(count integer);"""
        )

    def take(self, events: list[Received]) -> None:
        rows = []
        for event in events:
            content = json.loads(event.body)
            rows.append((event.id, content["box"], content["sequence"], event.place, content["time"], event.received))
        self._database.execute("begin")
        self._database.executemany("insert or ignore into events values (?, ?, ?, ?, ?, ?)", rows)
        self._database.execute("insert into delivered values (?)", (len(rows),))
        self._database.execute("commit")


async def consume(url: str, store: Store, slow_s: float, lose_acks: float) -> None:
    """For ever."""
    while True:
        try:
            await _consume(url, store, slow_s, lose_acks)
        except (OSError, NatsError, asyncio.TimeoutError, APIError):
            await asyncio.sleep(0.3)


async def _consume(url: str, store: Store, slow_s: float, lose_acks: float) -> None:
    async def ignore(_: Exception) -> None: ...

    connection = await nats.connect(url, allow_reconnect=False, connect_timeout=2, error_cb=ignore)
    try:
        config = ConsumerConfig(
            durable_name="centre", ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=4 * BATCH
        )
        reader = await connection.jetstream().pull_subscribe("ps.>", durable="centre", stream="PS", config=config)
        while not connection.is_closed:
            try:
                messages = await reader.fetch(BATCH, timeout=1)
            except (asyncio.TimeoutError, nats.errors.TimeoutError):
                continue
            now = time.time()
            events = [
                Received((m.headers or {})["Nats-Msg-Id"], m.metadata.sequence.stream, m.data, now) for m in messages
            ]
            if slow_s:
                await asyncio.sleep(slow_s)
            store.take(events)
            if random.random() >= lose_acks:  # else it comes again
                for message in messages:
                    await message.ack()
    finally:
        with contextlib.suppress(Exception):
            await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that each batch takes on the centre's disk")
    parser.add_argument("--lose-acks", type=float, default=0.0, help="share of batches that are kept but not confirmed")
    given = parser.parse_args()
    asyncio.run(consume(given.url, CountingStore(given.store), given.slow, given.lose_acks))


if __name__ == "__main__":
    sys.exit(main())
