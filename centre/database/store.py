"""Writes a batch of events in one transaction; each event once, however often and in whatever order it comes."""

from __future__ import annotations

import datetime
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pgvector import HalfVector
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from personsearch.centre.database.days import Days
from personsearch.centre.receiving.incoming import Incoming

FORGETTING = 7_205_760  # lock of the database: batches share it, an erasure has it alone


@dataclass
class Taken:
    """Of a batch: events that were new, that were there, and that were left out by cause."""

    new: int = 0
    duplicates: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    stays: Sequence[Incoming] = ()
    versions: dict[tuple[datetime.date, str], int] = field(default_factory=dict)  # by day and model, of these stays


async def take(connection: AsyncConnection, days: Days, batch: Sequence[Incoming], now: datetime.datetime) -> Taken:
    """Commits; raises psycopg.Error with nothing written."""
    left_out: Counter[str] = Counter()
    wanted = []
    for event in batch:
        if days.kept(event.day, now):
            wanted.append(event)
        else:
            left_out["future" if event.day > now.date() else "too_old"] += 1
    await days.make(connection, {event.day for event in wanted})
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock_shared(%s)", [FORGETTING])
        new = await _unknown(connection, wanted)
        duplicates = len(wanted) - len(new)
        forgotten = await _forgotten(connection, new)
        kept = [event for event in new if not forgotten.intersection(event.people)]
        left_out["forgotten"] += len(new) - len(kept)
        await _sightings(connection, [event for event in kept if event.kind == "sighting"])
        stays = [event for event in kept if event.kind == "stay"]
        versions = await write_stays(connection, stays)
        await _states(connection, new)
    return Taken(len(kept), duplicates, +left_out, stays, versions)


async def _unknown(connection: AsyncConnection, events: Sequence[Incoming]) -> list[Incoming]:
    """Those that are here for the first time, noted."""
    if not events:
        return []
    by_id = {(uuid.UUID(event.boot), event.sequence): event for event in events}  # twice in one batch is once
    rows = await (await connection.execute(
        "insert into received (day, boot, sequence) select * from unnest(%s::date[], %s::uuid[], %s::bigint[]) "
        "on conflict do nothing returning boot, sequence",
        [[event.day for event in by_id.values()], [key[0] for key in by_id], [key[1] for key in by_id]],
    )).fetchall()  # fmt: skip
    new = {(row[0], row[1]) for row in rows}
    return [event for key, event in by_id.items() if key in new]


async def _forgotten(connection: AsyncConnection, events: Sequence[Incoming]) -> set[str]:
    people = sorted({person for event in events for person in event.people})
    if not people:
        return set()
    rows = await connection.execute("select person from forgotten where person = any(%s)", [people])
    return {row[0] for row in await rows.fetchall()}


async def _sightings(connection: AsyncConnection, events: Sequence[Incoming]) -> None:
    """The latest event of each visit says what is kept of it; an older one that comes later changes nothing."""
    latest: dict[str, Incoming] = {}
    for event in events:
        known = latest.get(event.event["sighting"])
        if known is None or event.sequence > known.sequence:
            latest[event.event["sighting"]] = event
    if not latest:
        return
    # A track that joins may put a visit's beginning back over midnight: then the row moves to that day.
    ids, first = list(latest), min(event.day for event in latest.values())
    rows = await (await connection.execute(
        "select sighting, day, sequence from sightings where sighting = any(%s) and day between %s and %s",
        [ids, first - datetime.timedelta(days=1), max(e.day for e in latest.values()) + datetime.timedelta(days=1)],
    )).fetchall()  # fmt: skip
    for sighting, day, sequence in rows:
        newer = latest.get(sighting)
        if newer is None or day == newer.day:
            continue
        if sequence > newer.sequence:
            del latest[sighting]
        else:
            await connection.execute("delete from sightings where sighting = %s and day = %s", [sighting, day])
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "insert into sightings (day, sighting, box, boot, sequence, person, stranger, change, reason, started, "
            "last_seen, cameras, zones, evidence, model) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
            "%s, %s) on conflict (day, sighting) do update set sequence = excluded.sequence, person = excluded.person, "
            "stranger = excluded.stranger, change = excluded.change, reason = excluded.reason, "
            "started = excluded.started, last_seen = excluded.last_seen, cameras = excluded.cameras, "
            "zones = excluded.zones, evidence = excluded.evidence "
            "where sightings.sequence < excluded.sequence and sightings.box = excluded.box",
            [
                (e.day, s, e.box, e.boot, e.sequence, e.event["person"], e.event["stranger"], e.event["change"],
                 e.event["reason"], e.started, e.ended, Jsonb(e.event["cameras"]), Jsonb(e.event["zones"]),
                 Jsonb(e.event["evidence"]) if e.event["evidence"] else None, e.event["model"])
                for s, e in latest.items()
            ],
        )  # fmt: skip


async def write_stays(
    connection: AsyncConnection, events: Sequence[Incoming]
) -> dict[tuple[datetime.date, str], int]:  # fmt: skip
    """In a transaction, with what is counted of them and the means of their cameras. Gives the versions that their days
    have by now. Raises ValueError for embeddings of another size than their model's."""
    if not events:
        return {}
    versions = await _next_versions(connection, events)
    tallies: Counter[tuple[datetime.date, str, str, str]] = Counter()
    means: dict[tuple[str, str], Incoming] = {}
    rows = []
    for e in events:
        assert e.described is not None
        event, camera = e.event, str(e.event["camera"])
        rows.append(
            (e.day, e.boot, e.sequence, event["sighting"], e.box, camera, event["person"], event["stranger"], e.started,
             e.ended, event["track"], event["views"], event["quality"], event["model"],
             HalfVector(e.described.vector.astype(np.float16)), event.get("video"), event.get("video_s"))
        )  # fmt: skip
        tallies[e.day, event["model"], e.box, camera] += 1
        if (e.box, camera) not in means or means[e.box, camera].time <= e.time:
            means[e.box, camera] = e
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "insert into stays (day, boot, sequence, sighting, box, camera, person, stranger, started, ended, track, "
            "views, quality, model, described, video, video_s) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
        await cursor.executemany(
            "insert into tallies as t (day, model, box, camera, stays) values (%s, %s, %s, %s, %s) "
            "on conflict (day, model, box, camera) do update set stays = t.stays + excluded.stays",
            [(*key, count) for key, count in sorted(tallies.items())],
        )
        await cursor.executemany(
            "insert into cameras as c (box, camera, model, mean, mean_time) values (%s, %s, %s, %s, %s) "
            "on conflict (box, camera) do update set model = excluded.model, mean = excluded.mean, "
            "mean_time = excluded.mean_time where c.mean_time is null or c.mean_time <= excluded.mean_time",
            [
                (box, camera, e.event["model"], e.described.mean.astype("<f2").tobytes(), e.time)
                for (box, camera), e in sorted(means.items()) if e.described is not None
            ],
        )  # fmt: skip
    return versions


async def _next_versions(
    connection: AsyncConnection, events: Sequence[Incoming]
) -> dict[tuple[datetime.date, str], int]:  # fmt: skip
    """Of each day and model."""
    sizes: dict[tuple[datetime.date, str], set[int]] = {}
    for e in events:
        assert e.described is not None
        sizes.setdefault((e.day, e.event["model"]), set()).add(len(e.described.vector))
    versions = {}
    for part, here in sorted(sizes.items()):
        row = await (await connection.execute(
            "insert into stay_versions as v (day, model, dimensions) values (%s, %s, %s) "
            "on conflict (day, model) do update set version = v.version + 1 returning version, dimensions",
            [*part, min(here)],
        )).fetchone()  # fmt: skip
        assert row is not None
        if here != {row[1]}:
            raise ValueError(f"model {part[1]}: expected embeddings of {row[1]} numbers, got {sorted(here)}")
        versions[part] = row[0]
    return versions


async def _states(connection: AsyncConnection, events: Sequence[Incoming]) -> None:
    """How boxes and cameras are, by their latest events: `time` decides, since a box may begin to count anew."""
    latest: dict[str, Incoming] = {}
    cameras: dict[tuple[str, str], Incoming] = {}
    states: dict[tuple[str, str], Incoming] = {}
    for e in sorted(events, key=lambda e: (e.time, e.sequence)):
        latest[e.box] = e
        if e.kind == "camera":
            cameras[e.box, e.event["camera"]] = e
        elif e.kind in ("engine", "storage", "settings"):
            states[e.box, e.kind] = e
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "insert into boxes as b (box, boot, sequence, model, heard, event_time) values (%s, %s, %s, %s, now(), %s) "
            "on conflict (box) do update set heard = now(), "
            "boot = case when b.event_time <= excluded.event_time then excluded.boot else b.boot end, "
            "sequence = case when b.event_time <= excluded.event_time then excluded.sequence else b.sequence end, "
            "model = case when excluded.model <> '' then excluded.model else b.model end, "
            "event_time = greatest(b.event_time, excluded.event_time)",
            [(b, e.boot, e.sequence, e.event.get("model") or "", e.time) for b, e in sorted(latest.items())],
        )
        await cursor.executemany(
            "insert into cameras as c (box, camera, state, cause, since) values (%s, %s, %s, %s, %s) "
            "on conflict (box, camera) do update set state = excluded.state, cause = excluded.cause, "
            "since = excluded.since where c.since is null or c.since <= excluded.since",
            [
                (*key, e.event["state"], str(e.event.get("cause", ""))[:200], e.time)
                for key, e in sorted(cameras.items())
            ],
        )
        for (box, kind), e in sorted(states.items()):
            state, reason = e.event["state"][:100], str(e.event.get("reason", ""))[:2000]
            if kind == "storage":
                await cursor.execute("update boxes set storage = %s where box = %s", [state, box])
            else:
                await cursor.execute(
                    f"update boxes set {kind} = %s, {kind}_reason = %s where box = %s",
                    [state, reason, box],
                )
