#!/usr/bin/env python
"""How much of what an exact search finds does the centre's search find, and how long does it take?

  python tests/centre_recall.py [--stays 100000] [--days 30] [--queries 100] [--json FILE]

A real Postgres that comes along (or --dsn of an empty one) is filled with simulated stays: people who come some times
to some of 100 boxes with four cameras each. A stay is its person's vector and noise of its own, both with a falling
spectrum, as embeddings have; the command prints how alike stays of one person and of two are. Queries are further views
of people. `cpu_ms` is the processor time that the server took for a search, which a busy machine does not change.
--street says of how many stays these are a part: with --stays 333333 --days 1 --street 10000000 one day of ten million.
A database that this command has filled is asked at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from centre_parts import postgres
from pgvector import HalfVector

from personsearch.centre.database.days import Days
from personsearch.centre.database.migrate import migrate
from personsearch.centre.database.pool import Pool, pool_of
from personsearch.centre.database.searching import Filter, search
from personsearch.centre.settings import SearchSettings

MODEL, DIMENSIONS = "0123456789abcdef", 256
BOXES, CAMERAS, VISITS = 100, 4, 8  # visits of one person, on average
NEAR = 0.5  # cosine of what one would want to be shown: few strangers are so much alike
SPECTRUM, NOISE = 0.35, (0.5, 1.2)  # how fast the spectrum falls; noise to person, from a good stay to a poor one
COLUMNS = (
    "day, boot, sequence, sighting, box, camera, person, stranger, started, ended, track, views, quality, model, "
    "described"
)
TYPES = (
    "date", "uuid", "int8", "text", "text", "text", "text", "text", "timestamptz", "timestamptz", "int4", "int4",
    "float4", "text", "halfvec",
)  # fmt: skip
UTC = datetime.timezone.utc


class Street:
    """Simulated stays, the same for the same seed."""

    def __init__(self, stays: int, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self._scale = (np.arange(1, DIMENSIONS + 1) ** -SPECTRUM).astype(np.float32)
        self.people = self._draw(max(1, stays // VISITS))

    def _draw(self, count: int) -> np.ndarray:
        rows = self.random.standard_normal((count, DIMENSIONS), np.float32) * self._scale
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def views(self, who: np.ndarray) -> np.ndarray:
        """(N,) people -> (N, D) float32 of length one"""
        noise = self.random.uniform(*NOISE, size=(len(who), 1)).astype(np.float32)
        rows = self.people[who] + noise * self._draw(len(who))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def fill(pool: Pool, street: Street, days: list[datetime.date], stays: int) -> dict[str, float]:
    """Rows first, then the indexes, day by day: how an archive is taken in."""
    book, rows_s, index_s = Days(4000), 0.0, 0.0
    async with pool.connection() as connection:
        await connection.execute("set maintenance_work_mem = '1GB'")  # with less the index of a large day takes hours
        await book.make(connection, days)
        for n, day in enumerate(days):
            count = stays * (n + 1) // len(days) - stays * n // len(days)
            who = street.random.integers(len(street.people), size=count)
            start = time.monotonic()
            statement = f"copy stays ({COLUMNS}) from stdin with (format binary)"
            async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(TYPES)
                for row in _rows(street, who, day):
                    await copy.write_row(row)
            await connection.execute(
                "insert into tallies select day, box, camera, model, count(*) from stays where day = %s "
                "group by day, box, camera, model",
                [day],
            )
            rows_s, start = rows_s + time.monotonic() - start, time.monotonic()
            await book.index(connection, day, MODEL, DIMENSIONS)
            index_s += time.monotonic() - start
        await connection.execute("analyze")
        size = await (await connection.execute("select pg_database_size(current_database())")).fetchone()
    assert size is not None
    return {"rows_s": round(rows_s, 1), "index_s": round(index_s, 1), "bytes_a_stay": round(size[0] / stays)}


def _rows(street: Street, who: np.ndarray, day: datetime.date) -> Iterator[tuple[Any, ...]]:
    boot, midnight = uuid.uuid4(), datetime.datetime.combine(day, datetime.time(), UTC)
    for begin in range(0, len(who), 10_000):
        part = who[begin : begin + 10_000]
        places = street.random.integers(BOXES * CAMERAS, size=len(part))
        seconds = street.random.uniform(0, 86000, size=len(part))
        views = street.views(part).astype(np.float16)
        for i, (view, place, second) in enumerate(zip(views, places.tolist(), seconds.tolist(), strict=True)):
            n = begin + i
            started = midnight + datetime.timedelta(seconds=second)
            yield (
                day, boot, n + 1, f"s-{day.toordinal():06x}{n:010x}", f"box{place // CAMERAS}",
                f"c{place % CAMERAS}", None, None, started, started + datetime.timedelta(seconds=20), 1, 3, 0.5, MODEL,
                HalfVector(view),
            )  # fmt: skip


@contextlib.contextmanager
def clocked(connection: Any, count: int, into: dict[str, Any], name: str) -> Iterator[None]:
    """Notes what one of so many searches took of the server's processor, in ms; only where it runs on this machine."""
    clock = Path(f"/proc/{connection.info.backend_pid}/schedstat")
    start = int(clock.read_text().split()[0]) if clock.exists() else 0
    yield
    if clock.exists():
        into[name] = round((int(clock.read_text().split()[0]) - start) / 1e6 / count, 2)


async def exact_answers(
    connection: Any, queries: np.ndarray, wanted: Filter
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Of each query: the ten most alike, and how much; and what that took."""
    cost: dict[str, Any] = {}
    with clocked(connection, len(queries), cost, "exact_cpu_ms"):
        found = [await search(connection, q, MODEL, wanted, 10, SearchSettings(), exact=True) for q in queries]
    true = [{hit["sighting"]: hit["similarity"] for hit in one.hits} for one in found]
    return true, {"among": found[0].among, **cost}


async def measure(
    connection: Any, queries: np.ndarray, true: list[dict[str, float]], wanted: Filter, settings: SearchSettings
) -> dict[str, Any]:
    """Of one way of asking: recall@10 against the exact answer, also of what is near alone, rows, and milliseconds."""
    for query in queries[:5]:  # what has to be read from the disk is read
        await search(connection, query, MODEL, wanted, 10, settings)
    rows, times, ways, cost = 0, [], 0, {}  # type: int, list[float], int, dict[str, Any]
    right: list[tuple[bool, bool]] = []  # of each true hit: was it found, is it near?
    with clocked(connection, len(queries), cost, "cpu_ms"):
        for query, those in zip(queries, true, strict=True):
            start = time.monotonic()
            found = await search(connection, query, MODEL, wanted, 10, settings)
            times.append(1000 * (time.monotonic() - start))
            here = {hit["sighting"] for hit in found.hits}
            right += [(sighting in here, similarity >= NEAR) for sighting, similarity in those.items()]
            rows += len(found.hits)
            ways += found.exact
    near = [found for found, is_near in right if is_near]
    return {
        "recall_at_10": round(sum(found for found, _ in right) / max(1, len(right)), 4),
        "near": len(near), "recall_near": round(sum(near) / max(1, len(near)), 4),
        "rows": round(rows / len(queries), 2),
        "exact": ways == len(queries), **cost, "ms_p50": round(float(np.median(times)), 1),
        "ms_p95": round(float(np.quantile(times, 0.95)), 1),
    }  # fmt: skip


async def run(dsn: str, given: argparse.Namespace) -> dict[str, Any]:
    street, today = Street(max(given.stays, given.street)), datetime.datetime.now(UTC).date()
    days = [today - datetime.timedelta(days=n) for n in range(given.days)][::-1]
    pool = pool_of(dsn, 2)
    await pool.open()
    try:
        result: dict[str, Any] = {"stays": given.stays, "days": given.days, "people": len(street.people)}
        result["alike"] = _alike(street)
        print(json.dumps(result), flush=True)
        async with pool.connection() as connection:
            filled = await (await connection.execute("select 1 from tallies limit 1")).fetchone()
        if not filled:
            result["filled"] = await fill(pool, street, days, given.stays)
            print(json.dumps(result["filled"]), flush=True)
        queries = street.views(street.random.integers(len(street.people), size=given.queries))
        end = datetime.datetime.combine(today, datetime.time(23, 59), UTC)
        middle = end - datetime.timedelta(days=given.days // 2)
        filters = {
            "all": Filter(), "a day": Filter(middle - datetime.timedelta(days=1), middle),
            "a box": Filter(boxes=("box7",)), "a camera, three days": Filter(
                middle - datetime.timedelta(days=3), middle, cameras=("box7/c1",)
            ),
        }  # fmt: skip
        if given.days == 1:
            filters = {"all": Filter()}
        result["searches"] = []
        async with pool.connection() as connection:
            await connection.execute("set max_parallel_workers_per_gather = 0")  # all of the time is one process's
            for name, wanted in filters.items():
                result["searches"] += await _measured(connection, name, wanted, queries, given.ef)
    finally:
        await pool.close()
    return result


async def _measured(
    connection: Any, name: str, wanted: Filter, queries: np.ndarray, efs: list[int]
) -> list[dict[str, Any]]:
    true, cost = await exact_answers(connection, queries, wanted)
    rows = []
    for below, ef in ((SearchSettings().exact_below, 100), *((0, ef) for ef in efs)):
        settings = SearchSettings(exact_below=below, ef=ef)
        row = {"filter": name, "chosen": bool(below), "ef": ef, **cost}
        row |= await measure(connection, queries, true, wanted, settings)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _alike(street: Street) -> dict[str, float]:
    who = street.random.integers(len(street.people), size=2000)
    one, two = street.views(who), street.views(who)
    same, other = (one * two).sum(1), (one * np.roll(two, 1, axis=0)).sum(1)
    return {
        "same_mean": round(float(same.mean()), 3), "same_std": round(float(same.std()), 3),
        "other_mean": round(float(other.mean()), 3), "other_std": round(float(other.std()), 3),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--street", type=int, default=0, help="stays of which these are a part (default: all)")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--ef", type=int, nargs="*", default=[40, 100, 200])
    parser.add_argument("--dsn", default="", help="of an empty database (default: one that comes along)")
    parser.add_argument("--json", default="", metavar="FILE")
    given = parser.parse_args()
    with contextlib.nullcontext(given.dsn) if given.dsn else postgres() as dsn:
        migrate(dsn)
        result = asyncio.run(run(dsn, given))
    if given.json:
        command = " ".join("DSN" if word and word == given.dsn else word for word in sys.argv)
        result = {"command": f"python {command}", "cpus": len(os.sched_getaffinity(0)), **result}
        Path(given.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
