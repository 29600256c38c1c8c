#!/usr/bin/env python
"""How much of what an exact search finds does the centre's search find, and how long does it take?

  python tests/centre_recall.py [--stays 100000] [--days 30] [--queries 100] [--ways 1000/50] [--json FILE]

A real Postgres that comes along (or --dsn of an empty one) is filled with simulated stays (simulated_stays.py): people
who come some times to some of 100 boxes with four cameras each; the command prints how alike stays of one person and of
two are. Queries are further views of people. `cpu_ms` is the processor time that the server took for a search, which a
busy machine does not change.
--street says of how many stays these are a part: with --stays 333333 --days 1 --street 10000000 one day of ten million.
A database that this command has filled (--folder keeps it) is asked at once; one that it has begun to fill is filled
up. With --exact-queries 5 the exact answers, which take seconds each of ten million stays, are asked for so many
queries only, and recall is of these.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from centre_parts import postgres
from simulated_stays import BOXES, MODEL, Street, fill

from personsearch.centre.codes.table import Codes
from personsearch.centre.database.embedded import database
from personsearch.centre.database.migrate import migrate
from personsearch.centre.database.pool import Pool, pool_of
from personsearch.centre.database.searching import Filter, search
from personsearch.centre.settings import DatabaseSettings, SearchSettings

NEAR = 0.5  # cosine of what one would want to be shown: few strangers are so much alike
UTC = datetime.timezone.utc


async def read_codes(pool: Pool) -> tuple[Codes, dict[str, float]]:
    """As the centre does at its start: seconds by the clock and of this process's processor time, and bytes."""
    codes, before, wall, cpu = Codes(), _resident(), time.monotonic(), time.process_time()
    async with pool.connection() as connection:
        await codes.sync(connection)
    cost = {"read_s": round(time.monotonic() - wall, 1), "read_cpu_s": round(time.process_time() - cpu, 1)}
    return codes, {"codes": len(codes), **cost, "resident_mb": round((_resident() - before) / 1e6)}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def clocked(connection: Any, count: int, into: dict[str, Any], name: str) -> Iterator[None]:
    """Notes what one of so many searches took of processors, in ms: of the server, if it runs on this machine, and of
    this process."""
    clock, own = Path(f"/proc/{connection.info.backend_pid}/schedstat"), time.process_time()
    start = int(clock.read_text().split()[0]) if clock.exists() else 0
    yield
    into[f"{name}_here"] = round(1000 * (time.process_time() - own) / count, 2)
    if clock.exists():
        into[f"{name}_server"] = round((int(clock.read_text().split()[0]) - start) / 1e6 / count, 2)


async def exact_answers(
    connection: Any, codes: Codes, queries: np.ndarray, wanted: Filter
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Of each query: the ten most alike, and how much; and what that took."""
    cost: dict[str, Any] = {}
    with clocked(connection, len(queries), cost, "exact_cpu_ms"):
        found = [await search(connection, q, MODEL, wanted, 10, SearchSettings(), codes, True) for q in queries]
    true = [{hit["sighting"]: hit["similarity"] for hit in one.hits} for one in found]
    return true, {"among": found[0].among, **cost}


async def measure(
    connection: Any, codes: Codes, queries: np.ndarray, true: list[dict[str, float]], wanted: Filter,
    settings: SearchSettings,
) -> dict[str, Any]:  # fmt: skip
    """Of one way of asking: recall@10 against the exact answers that there are, also of what is near alone, and ms."""
    for query in queries[:20]:  # what has to be read from the disk is read
        await search(connection, query, MODEL, wanted, 10, settings, codes)
    times, ways, cost = [], 0, {}  # type: list[float], int, dict[str, Any]
    right: list[tuple[bool, bool]] = []  # of each true hit: was it found, is it near?
    with clocked(connection, len(queries), cost, "cpu_ms"):
        for n, query in enumerate(queries):
            start = time.monotonic()
            found = await search(connection, query, MODEL, wanted, 10, settings, codes)
            times.append(1000 * (time.monotonic() - start))
            here = {hit["sighting"] for hit in found.hits}
            right += [(sighting in here, similarity >= NEAR) for sighting, similarity in _of(true, n).items()]
            ways += found.exact
    near = [found for found, is_near in right if is_near]
    return {
        "true": len(right), "recall_at_10": round(sum(found for found, _ in right) / max(1, len(right)), 4),
        "near": len(near), "recall_near": round(sum(near) / max(1, len(near)), 4),
        "exact": ways == len(queries), **cost, "ms_p50": round(float(np.median(times)), 1),
        "ms_p95": round(float(np.quantile(times, 0.95)), 1),
    }  # fmt: skip


def _of(true: list[dict[str, float]], n: int) -> dict[str, float]:
    return true[n] if n < len(true) else {}


async def run(dsn: str, given: argparse.Namespace) -> dict[str, Any]:
    street = Street(max(given.stays, given.street))
    pool = pool_of(dsn, 2)
    pool.timeout = 60.0  # seconds for a connection: the machine may be busy
    await pool.open()
    try:
        result: dict[str, Any] = {"stays": given.stays, "days": given.days, "people": len(street.people)}
        result["alike"] = street.alike()
        print(json.dumps(result), flush=True)
        async with pool.connection() as connection:
            row = await (await connection.execute("select min(day), count(*) from stay_versions")).fetchone()
        assert row is not None
        first, filled = row  # a folder may have been filled on another day
        first = first or datetime.datetime.now(UTC).date() - datetime.timedelta(days=given.days - 1)
        days = [first + datetime.timedelta(days=n) for n in range(given.days)]
        if filled < given.days:
            result["filled"] = await fill(pool, street, days, given.stays)
            print(json.dumps(result["filled"]), flush=True)
        queries = street.views(street.random.integers(len(street.people), size=given.queries))
        end = datetime.datetime.combine(days[-1], datetime.time(23, 59), UTC)
        middle = end - datetime.timedelta(days=given.days // 2)
        half = tuple(f"box{n:02d}" for n in range(BOXES // 2))
        filters = {
            "all": Filter(), "a day": Filter(middle - datetime.timedelta(days=1), middle),
            "a box": Filter(boxes=("box07",)), "half of the boxes": Filter(boxes=half),
            "a camera, three days": Filter(middle - datetime.timedelta(days=3), middle, cameras=("box07/c1",)),
        }  # fmt: skip
        if given.days == 1:
            filters = {"all": Filter(), "half of the boxes": Filter(boxes=half)}
        codes, result["codes"] = await read_codes(pool)
        print(json.dumps(result["codes"]), flush=True)
        result["searches"] = []
        async with pool.connection() as connection:
            await connection.execute("set max_parallel_workers_per_gather = 0")  # all of the time is one process's
            for name, wanted in list(filters.items())[: given.filters]:
                true, cost = await exact_answers(connection, codes, queries[: given.exact_queries], wanted)
                shipped = SearchSettings()
                ways = [shipped, *(SearchSettings(exact_below=0, refined=n, reranked=m) for n, m in given.ways)]
                for settings in ways:
                    row = {"filter": name, "shipped": settings is shipped, **settings.model_dump(), **cost}
                    row |= await measure(connection, codes, queries, true, wanted, settings)
                    result["searches"].append(row)
                    print(json.dumps(row), flush=True)
        codes.close()
    finally:
        await pool.close()
    return result


def _way(text: str) -> tuple[int, int]:
    refined, _, reranked = text.partition("/")
    return int(refined), int(reranked)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--street", type=int, default=0, help="stays of which these are a part (default: all)")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--exact-queries", type=int, default=1000, help="of these, that are asked exactly, too")
    parser.add_argument(
        "--ways", type=_way, nargs="*", default=[], metavar="REFINED/RERANKED",
        help="of asking, besides the shipped one: stays compared by finer codes, and of these exactly",
    )  # fmt: skip
    parser.add_argument("--filters", type=int, default=5, help="of these so many: none, a day, a box, half, a camera")
    parser.add_argument("--folder", default="", help="where a database that comes along is kept (default: nowhere)")
    parser.add_argument("--dsn", default="", help="of an empty database (default: one that comes along)")
    parser.add_argument("--json", default="", metavar="FILE")
    given = parser.parse_args()
    if given.folder:
        source = database(DatabaseSettings(folder=given.folder))
    else:
        source = contextlib.nullcontext(given.dsn) if given.dsn else postgres()
    with source as dsn:
        migrate(dsn)
        result = asyncio.run(run(dsn, given))
    if given.json:
        command = " ".join("DSN" if word and word == given.dsn else word for word in sys.argv)
        result = {"command": f"python {command}", "cpus": len(os.sched_getaffinity(0)), **result}
        Path(given.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
