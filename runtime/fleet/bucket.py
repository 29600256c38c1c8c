"""A group's bucket at the hub (JetStream key-value): all of it in memory as it comes, and writes that lose to none.

`ps-gallery-GROUP` has the keys of `shared_record.py`, and `held.BOX`: what a box says that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client as Connection
from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig
from nats.js.errors import APIError, BadRequestError, BucketNotFoundError, KeyWrongLastSequenceError

from personsearch.runtime.fleet.ending import end
from personsearch.runtime.fleet.nats_connection import ANSWER_S, Hub, close_quietly
from personsearch.runtime.fleet.sink import plain

HELD = "held"
SILENCE_S = 6 * ANSWER_S  # in which something has to come of what is there
DELETED = ("DEL", "PURGE")


class BucketDown(Exception):
    """The hub cannot be used now; says why in a few words."""


@dataclass(frozen=True)
class Entry:
    value: bytes  # empty: deleted
    revision: int


def bucket_name(group: str) -> str:
    return f"ps-gallery-{group}"


def held_key(box: str) -> str:
    """Buckets take no %."""
    return f"{HELD}.{plain(box).replace('%', '=')}"


class Bucket:
    """Call `open`; `entries` is what there is. `changed` is set when a record came, `heard` when anything did."""

    def __init__(self, hub: Hub, group: str) -> None:
        self._hub, self.group = hub, group
        self.entries: dict[str, Entry] = {}
        self.changed, self.heard, self.lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._error = ""
        self._connection: Connection | None = None
        self._watching: asyncio.Task[None] | None = None
        self._kv: Any = None

    async def open(self, make: bool) -> None:
        """Connect and read everything. make: the bucket, if there is none. Raises BucketDown."""
        self.entries, self._error = {}, ""
        self.changed, self.heard, self.lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        try:
            self._connection = await self._hub.connect(self._on_error, self._on_lost)
            stream = self._connection.jetstream(timeout=ANSWER_S)
            self._kv = await self._bucket(stream, make)
            watcher = await self._kv.watchall(include_history=False)
            ready = asyncio.Event()
            self._watching = asyncio.create_task(self._watch(watcher, ready))
            await self._first(ready)
        except BucketDown:
            raise
        except Exception as error:
            raise BucketDown(self._reason(error)) from None

    async def _bucket(self, stream: Any, make: bool) -> Any:
        name = bucket_name(self.group)
        try:
            return await stream.key_value(name)
        except BucketNotFoundError:
            if not make:
                raise BucketDown(f"the hub has no bucket {name}; the centre makes it") from None
        with contextlib.suppress(BadRequestError):  # somebody else made it just now
            await stream.create_key_value(KeyValueConfig(bucket=name, history=1, direct=True))
        return await stream.key_value(name)

    async def _first(self, ready: asyncio.Event) -> None:
        """Until all that was there has come, however long that takes on a slow line, as long as something comes."""
        waiting = [asyncio.ensure_future(ready.wait()), asyncio.ensure_future(self.lost.wait())]
        before = -1
        while not ready.is_set() and not self.lost.is_set() and len(self.entries) > before:
            before = len(self.entries)
            await asyncio.wait(waiting, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not ready.is_set() and not self.lost.is_set():
            raise BucketDown(f"cannot use the hub (after {before} records nothing came for {SILENCE_S:.0f} s)")
        if self.lost.is_set():
            raise BucketDown(self._error or "the connection was lost")

    async def _watch(self, watcher: Any, ready: asyncio.Event) -> None:
        """Until the connection ends. A marker says when all that was there has come."""
        try:
            while True:
                try:
                    entry = await watcher.updates(timeout=3600)
                except (NatsError, asyncio.TimeoutError):
                    continue
                if entry is None:
                    ready.set()
                    continue
                known = self.entries.get(entry.key)
                if known is None or entry.revision > known.revision:
                    value = b"" if entry.operation in DELETED else (entry.value or b"")
                    self.entries[entry.key] = Entry(value, entry.revision)
                    self.heard.set()
                    if not entry.key.startswith(f"{HELD}."):
                        self.changed.set()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._error = self._error or str(error) or type(error).__name__
            self.lost.set()

    async def write(self, key: str, value: bytes, seen: Entry | None) -> bool:
        """Whether it was written: not, if somebody wrote this key since we saw it so. Raises BucketDown."""
        try:
            revision = await self._kv.update(key, value, last=seen.revision if seen else 0)
        except KeyWrongLastSequenceError:
            return False
        except Exception as error:
            if isinstance(error, APIError) and error.err_code == 10071:  # wrong last sequence, as some versions say it
                return False
            raise BucketDown(self._reason(error)) from None
        self.entries[key] = Entry(value, revision)
        self.changed.set()
        self.heard.set()
        return True

    async def put(self, key: str, value: bytes) -> None:
        """Of a key that is ours alone. Raises BucketDown."""
        try:
            self.entries[key] = Entry(value, await self._kv.put(key, value))
        except Exception as error:
            raise BucketDown(self._reason(error)) from None

    async def delete(self, key: str, seen: Entry) -> None:
        """As far as nobody wrote it since we saw it so. Raises BucketDown."""
        try:
            await self._kv.delete(key, last=seen.revision)
        except KeyWrongLastSequenceError:
            return
        except Exception as error:
            if isinstance(error, APIError) and error.err_code == 10071:
                return
            raise BucketDown(self._reason(error)) from None

    @property
    def largest(self) -> int:
        """Bytes that a value may have."""
        return max(0, (self._connection.max_payload if self._connection else 0) - 4096)

    async def close(self) -> None:
        """Never raises."""
        if self._watching is not None:
            await end(self._watching)
            self._watching = None
        if self._connection is not None:
            await close_quietly(self._connection)
            self._connection = None

    async def _on_error(self, error: Exception) -> None:
        self._error = str(error)
        if "permissions violation" in self._error.lower():
            self.lost.set()

    async def _on_lost(self) -> None:
        self.lost.set()

    def _reason(self, error: BaseException) -> str:
        text = self._error or getattr(error, "description", "") or str(error) or type(error).__name__
        return f"cannot use the hub ({text})"
