"""The codes of all days and models: kept as the database is, and asked by all processors at once.

`stay_versions` has a number for each day and model that grows by one with each transaction that writes or deletes
stays. What the intake wrote is added here at once; whatever else has changed the number (an archive, an erasure, a day
that was dropped) is found by `sync`, which compares keys with the database.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import faiss
import numpy as np
from psycopg import AsyncConnection

from personsearch.centre.codes.day import KEY, DayCodes
from personsearch.centre.codes.reading import EPOCH, Portion, all_stays, some_stays
from personsearch.centre.receiving.incoming import Incoming
from personsearch.core.processor import compute_threads

Part = tuple[datetime.date, str]  # day and model
LEAST = 50  # candidates of each day, however small
KEYS = 5000  # that are read at a time
SECOND = 1_000_000  # in microseconds
DISORDER = datetime.timedelta(days=1)  # a stay may have begun so long before a range that it overlaps
UTC = datetime.timezone.utc


@dataclass(frozen=True)
class Candidates:
    """Where stays stand in the database: the columns of their keys."""

    days: list[datetime.date]
    boots: list[UUID]
    sequences: list[int]


class Codes:
    """To be used in one event loop. Until the first `sync` is done, `ready` is false, and nothing should be asked."""

    def __init__(self) -> None:
        self.ready = False
        self.parts: dict[Part, DayCodes] = {}
        self._places: dict[tuple[str, str], int] = {}
        self._changing = asyncio.Lock()
        self._workers = compute_threads()
        self._threads = ThreadPoolExecutor(self._workers, "codes", initializer=faiss.omp_set_num_threads, initargs=(1,))

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def add(self, stays: Sequence[Incoming], versions: dict[Part, int]) -> None:
        """What a transaction has written, which led to these versions. Where something else was written between, `sync`
        is left to find it."""
        by_part: dict[Part, list[Incoming]] = defaultdict(list)
        for stay in stays:
            by_part[stay.day, stay.event["model"]].append(stay)
        async with self._changing:
            for part, those in by_part.items():
                vectors = np.stack([stay.described.vector for stay in those if stay.described is not None])
                codes, version = self.parts.get(part), versions[part]
                if codes is None and version == 1:
                    codes = self.parts[part] = DayCodes(vectors.shape[1], 0)
                if codes is not None and codes.version == version - 1:
                    spans = np.array([[_since_epoch(t or EPOCH) for t in (s.started, s.ended)] for s in those])
                    keys = self._keys(
                        part[0], codes, [UUID(s.boot).bytes for s in those], [s.sequence for s in those],
                        [(s.box, str(s.event["camera"])) for s in those], spans[:, 0], spans[:, 1],
                    )  # fmt: skip
                    await self._run(codes.add, keys, vectors)
                    codes.version = version

    async def sync(self, connection: AsyncConnection[Any]) -> None:
        """All that is not as the database has it; the latest days first. Raises psycopg.Error."""
        async with self._changing:  # else a day that the intake begins now would seem to be gone
            rows = await (await connection.execute(
                "select day, model, dimensions, version from stay_versions order by day desc, model"
            )).fetchall()  # fmt: skip
            for part in self.parts.keys() - {(day, model) for day, model, _, _ in rows}:
                del self.parts[part]
        for day, model, dimensions, version in rows:
            async with self._changing:
                known = self.parts.get((day, model))
                if known is None or known.version < version:
                    await self._follow(connection, (day, model), dimensions)
        self.ready = True

    async def candidates(
        self, query: np.ndarray, model: str, since: datetime.datetime | None, until: datetime.datetime | None,
        places: Sequence[tuple[str, str | None]], refined: int, count: int,
    ) -> Candidates:  # fmt: skip
        """The stays that seem the most like the query (D,), of those that overlap a time to a second and were in one of
        these places: boxes and, if not None, their cameras; none: everywhere. Of each day the nearest by one bit a
        number, about twice `refined` together, are compared by their finer codes; `count` of these remain."""
        allowed = self._allowed(places)
        first = datetime.date.min if since is None else (since - DISORDER).date()
        last = datetime.date.max if until is None else until.date()
        days = [
            (day, codes) for (day, of), codes in self.parts.items()
            if of == model and codes.dimensions == len(query) and first <= day <= last
        ]  # fmt: skip
        masks = await self._each(_mask, [(codes.keys, day, since, until, allowed) for day, codes in days])
        left = [len(c) if mask is None else int(mask.sum()) for (_, c), mask in zip(days, masks, strict=True)]
        total = sum(left)
        if not total:
            return Candidates([], [], [])
        found = await self._each(DayCodes.nearest, [
            (codes, query, LEAST + 2 * refined * n // total, mask)
            for (_, codes), mask, n in zip(days, masks, left, strict=True)
        ])  # fmt: skip
        keys, cosines = (np.concatenate([one[i] for one in found]) for i in (0, 1))
        which = np.repeat(np.arange(len(days)), [len(one[0]) for one in found])
        best = np.argsort(-cosines, kind="stable")[:count]
        which, boots = which[best].tolist(), keys["boot"][best].tolist()
        return Candidates(
            [days[n][0] for n in which], [days[n][1].boots[b] for n, b in zip(which, boots, strict=True)],
            keys["sequence"][best].tolist(),
        )  # fmt: skip

    # --- as the database has it ------------------------------------------------------------------------------------

    async def _follow(self, connection: AsyncConnection[Any], part: Part, dimensions: int) -> None:
        """One day and model: what is new is read, what is gone is removed."""
        async with connection.transaction():
            await connection.execute("set transaction isolation level repeatable read")
            row = await (await connection.execute(
                "select version from stay_versions where day = %s and model = %s", part
            )).fetchone()  # fmt: skip
            if row is None:
                self.parts.pop(part, None)
                return
            codes = self.parts.get(part) or DayCodes(dimensions, 0)
            if len(codes):
                new = await self._compare(connection, part, codes)
                await self._read(codes, part[0], some_stays(connection, *part, new))
            else:
                await self._read(codes, part[0], all_stays(connection, *part))
        codes.version = row[0]
        self.parts[part] = codes

    async def _compare(
        self, connection: AsyncConnection[Any], part: Part, codes: DayCodes
    ) -> list[tuple[UUID, int]]:  # fmt: skip
        """Removes what is gone; gives the keys of what is new."""
        here = {
            (codes.boots[boot], sequence): n
            for n, (boot, sequence) in enumerate(codes.keys[["boot", "sequence"]].tolist())
        }
        new: list[tuple[UUID, int]] = []
        async with connection.cursor("keys", binary=True) as cursor:
            await cursor.execute("select boot, sequence from stays where day = %s and model = %s", part)
            while rows := await cursor.fetchmany(KEYS):
                new += [key for key in rows if here.pop(key, None) is None]
        if here:
            await self._run(codes.remove, sorted(here.values()))
        return new

    async def _read(self, codes: DayCodes, day: datetime.date, portions: AsyncIterator[Portion]) -> None:
        """While codes are made of some stays, the database gives the next."""
        waiting: list[asyncio.Future[None]] = []
        try:
            async for p in portions:
                keys = self._keys(day, codes, p.boots, p.sequences, p.places, p.started, p.ended)
                waiting.append(self._run(_add, codes, keys, p))
                if len(waiting) > 2 * self._workers:
                    await waiting.pop(0)
        finally:
            failed = [e for e in await asyncio.gather(*waiting, return_exceptions=True) if e is not None]
        if failed:
            raise failed[0]

    def _keys(
        self, day: datetime.date, codes: DayCodes, boots: Sequence[bytes], sequences: Any,
        places: Sequence[tuple[str, str]], started: np.ndarray, ended: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """(N,) KEY of columns, times in microseconds since EPOCH; there, they are in seconds from midnight, the start
        rounded down and the end up."""
        midnight = _since_epoch(_midnight(day))
        keys = np.empty(len(boots), KEY)
        keys["boot"] = [codes.boot_number(boot) for boot in boots]
        keys["sequence"] = sequences
        keys["place"] = [self._places.setdefault(place, len(self._places)) for place in places]
        keys["started"] = (started - midnight) // SECOND
        keys["ended"] = -((midnight - ended) // SECOND)
        return keys

    def _allowed(self, places: Sequence[tuple[str, str | None]]) -> np.ndarray | None:
        """(P,) bool, by number of place."""
        if not places:
            return None
        wanted = set(places)
        return np.array(
            [(box, None) in wanted or (box, camera) in wanted for box, camera in self._places], bool
        )  # fmt: skip

    async def _each(self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What the function says to each job, by all processors: to hand over each job alone takes longer than most of
        them do."""
        shares = [jobs[n :: self._workers] for n in range(min(self._workers, len(jobs)))]
        done = await asyncio.gather(*[self._run(_all, function, share) for share in shares])
        answers: list[Any] = [None] * len(jobs)
        for n, some in enumerate(done):
            answers[n :: self._workers] = some
        return answers

    def _run(self, function: Any, *given: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(function, *given))


def _all(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [function(*job) for job in jobs]


def _add(codes: DayCodes, keys: np.ndarray, portion: Portion) -> None:
    codes.add(keys, portion.vectors)


def _since_epoch(moment: datetime.datetime) -> int:
    """Microseconds."""
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), UTC)


def _mask(
    keys: np.ndarray, day: datetime.date, since: datetime.datetime | None, until: datetime.datetime | None,
    allowed: np.ndarray | None,
) -> np.ndarray | None:  # fmt: skip
    """(N,) bool: what a filter leaves of a day; None where that is all."""
    mask, midnight = None, _midnight(day)
    if since is not None and since > midnight:
        mask = keys["ended"] >= (since - midnight).total_seconds()
    if until is not None and until < midnight + datetime.timedelta(days=1):
        early = keys["started"] <= (until - midnight).total_seconds()
        mask = early if mask is None else mask & early
    if allowed is not None:
        here = allowed[keys["place"]]
        mask = here if mask is None else mask & here
    return mask
