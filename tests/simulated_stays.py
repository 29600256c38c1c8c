"""Simulated stays of a street, and a centre's database that is filled with them by Postgres' binary COPY.

A stay is its person's vector and noise of its own, both with a falling spectrum, as embeddings have.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Iterator

import numpy as np

from personsearch.centre.database.days import Days
from personsearch.centre.database.pool import Pool

MODEL, DIMENSIONS = "0123456789abcdef", 256
BOXES, CAMERAS, VISITS = 100, 4, 8  # visits of one person, on average
SPECTRUM, NOISE = 0.35, (0.5, 1.2)  # how fast the spectrum falls; noise to person, from a good stay to a poor one
SEED = 7
STEP = 10_000  # rows at a time
EPOCH = datetime.date(2000, 1, 1)  # from which Postgres counts
SIGNATURE, END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
COUNTS = (
    "insert into tallies select day, box, camera, model, count(*) from stays where day = %s group by 1, 2, 3, 4",
    "insert into stay_versions select day, model, max(vector_dims(described)) from stays where day = %s group by 1, 2",
)


class Street:
    """The same people each time."""

    def __init__(self, stays: int) -> None:
        self.random = np.random.default_rng(SEED)
        self._scale = (np.arange(1, DIMENSIONS + 1) ** -SPECTRUM).astype(np.float32)
        self.people = self._draw(max(1, stays // VISITS), self.random)

    def _draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        rows = random.standard_normal((count, DIMENSIONS), np.float32) * self._scale
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def views(self, who: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        """(N,) people -> (N, D) float32 of length one"""
        random = random or self.random
        noise = random.uniform(*NOISE, size=(len(who), 1)).astype(np.float32)
        rows = self.people[who] + noise * self._draw(len(who), random)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def alike(self) -> dict[str, float]:
        """Cosines of two stays of one person, and of two people."""
        who = self.random.integers(len(self.people), size=2000)
        one, two = self.views(who), self.views(who)
        same, other = (one * two).sum(1), (one * np.roll(two, 1, axis=0)).sum(1)
        return {
            "same_mean": round(float(same.mean()), 3), "same_std": round(float(same.std()), 3),
            "other_mean": round(float(other.mean()), 3), "other_std": round(float(other.std()), 3),
        }  # fmt: skip


async def fill(pool: Pool, street: Street, days: list[datetime.date], stays: int) -> dict[str, float]:
    """Day by day, each whole or not at all: those that are there are left as they are."""
    start = time.monotonic()
    async with pool.connection() as connection:
        await Days(4000).make(connection, days)
        done = {row[0] for row in await (await connection.execute("select day from stay_versions")).fetchall()}
        statement = f"copy stays ({', '.join(name for name, _ in COLUMNS)}) from stdin with (format binary)"
        for n, day in enumerate(days):
            if day in done:
                continue
            count = stays * (n + 1) // len(days) - stays * n // len(days)
            async with connection.transaction():
                async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    await copy.write(SIGNATURE)
                    for rows in _rows(street, np.random.default_rng([SEED, n]), count, day):
                        await copy.write(rows)
                    await copy.write(END)
                for counting in COUNTS:
                    await connection.execute(counting, [day])
        await connection.execute("vacuum analyze stays")
        size = await (await connection.execute("select pg_database_size(current_database())")).fetchone()
    assert size is not None
    return {"fill_s": round(time.monotonic() - start, 1), "bytes_a_stay": round(size[0] / stays)}


DESCRIBED = np.dtype([("dimensions", ">u2"), ("unused", ">u2"), ("numbers", ">f2", DIMENSIONS)])
COLUMNS = (
    ("day", ">i4"), ("boot", "V16"), ("sequence", ">i8"), ("sighting", "S18"), ("box", "S5"), ("camera", "S2"),
    ("started", ">i8"), ("ended", ">i8"), ("track", ">i4"), ("views", ">i4"), ("quality", ">f4"), ("model", "S16"),
    ("described", DESCRIBED),
)  # fmt: skip
ROW = np.dtype(
    [("fields", ">i2")] + [part for name, kind in COLUMNS for part in ((f"{name}_bytes", ">i4"), (name, kind))]
)


def _rows(street: Street, random: np.random.Generator, count: int, day: datetime.date) -> Iterator[bytes]:
    """As COPY takes them; every row has the same length."""
    boot, midnight = uuid.uuid4().bytes, (day - EPOCH).days * 86_400
    for begin in range(0, count, STEP):
        numbers = range(begin, min(begin + STEP, count))
        places = random.integers(BOXES * CAMERAS, size=len(numbers))
        rows = np.zeros(len(numbers), ROW)
        rows["fields"] = len(COLUMNS)
        for name, _ in COLUMNS:
            rows[f"{name}_bytes"] = rows[name].dtype.itemsize
        rows["day"], rows["boot"], rows["track"], rows["views"], rows["quality"] = (day - EPOCH).days, boot, 1, 3, 0.5
        rows["sequence"] = np.array(numbers) + 1
        rows["sighting"] = [f"s-{day.toordinal():06x}{n:010x}".encode() for n in numbers]
        rows["box"] = np.array([f"box{n:02d}".encode() for n in range(BOXES)])[places // CAMERAS]
        rows["camera"] = np.array([f"c{n}".encode() for n in range(CAMERAS)])[places % CAMERAS]
        rows["started"] = 1_000_000 * midnight + (1e6 * random.uniform(0, 86_000, size=len(numbers))).astype(np.int64)
        rows["ended"] = rows["started"] + 20_000_000
        rows["model"] = MODEL.encode()
        rows["described"]["dimensions"] = DIMENSIONS
        rows["described"]["numbers"] = street.views(random.integers(len(street.people), size=len(numbers)), random)
        yield rows.tobytes()
