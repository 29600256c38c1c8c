"""A day's stays out of the database, some thousand in one row: by columns, so that none of them becomes Python's."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from psycopg import AsyncConnection

from personsearch.centre.database.days import partition_name

BLOCKS = 256  # of the table, at a time: some 3,000 stays of 256 dimensions
KEYS = 5000  # stays that are asked for by their keys, at a time
BOOT = 16  # bytes
EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)  # from which Postgres counts
HALFVEC = np.dtype([("dimensions", ">u2"), ("unused", ">u2")])
COLUMNS = (
    "count(*), string_agg(uuid_send(boot), ''), string_agg(int8send(sequence), ''), "
    r"string_agg(textsend(box) || '\x00'::bytea || textsend(camera), '\x00'::bytea), "
    "string_agg(timestamptz_send(started), ''), string_agg(timestamptz_send(ended), ''), "
    "string_agg(halfvec_send(described), '')"
)
OF_BLOCKS = f"select {COLUMNS} from stays where day = %s and model = %s and ctid >= %s::tid and ctid < %s::tid"
OF_KEYS = (
    f"select {COLUMNS} from unnest(%s::uuid[], %s::bigint[]) as k(boot, sequence) "
    "join stays using (boot, sequence) where day = %s and model = %s"
)


@dataclass(frozen=True)
class Portion:
    """Stays: N of each."""

    boots: list[bytes]
    sequences: np.ndarray  # (N,) int64
    places: list[tuple[str, str]]  # box and camera
    started: np.ndarray  # (N,) int64, microseconds since EPOCH
    ended: np.ndarray
    packed: np.ndarray  # (N, D) float16, big-endian

    @property
    def vectors(self) -> np.ndarray:
        """(N, D) float32"""
        return self.packed.view(np.uint16).byteswap().view(np.float16).astype(np.float32)


async def all_stays(connection: AsyncConnection[Any], day: datetime.date, model: str) -> AsyncIterator[Portion]:
    """In a transaction that sees one state of the database. Raises psycopg.Error."""
    row = await (await connection.execute(
        "select coalesce(pg_relation_size(to_regclass(%s)) / current_setting('block_size')::int, 0)",
        [partition_name("stays", day)],
    )).fetchone()  # fmt: skip
    for block in range(0, row[0] if row else 0, BLOCKS):
        bounds = [f"({block},0)", f"({block + BLOCKS},0)"]
        if (portion := await _portion(connection, OF_BLOCKS, [day, model, *bounds])) is not None:
            yield portion


async def some_stays(
    connection: AsyncConnection[Any], day: datetime.date, model: str, keys: Sequence[tuple[UUID, int]]
) -> AsyncIterator[Portion]:  # fmt: skip
    """keys  boot and sequence"""
    for first in range(0, len(keys), KEYS):
        some = keys[first : first + KEYS]
        given = [[boot for boot, _ in some], [sequence for _, sequence in some], day, model]
        if (portion := await _portion(connection, OF_KEYS, given)) is not None:
            yield portion


async def _portion(connection: AsyncConnection[Any], statement: str, given: list[Any]) -> Portion | None:
    cursor = connection.cursor(binary=True)
    row = await (await cursor.execute(statement, given)).fetchone()  # type: ignore[arg-type]
    if not row or not row[0]:
        return None
    count, boots, sequences, places, started, ended, vectors = row
    names = places.decode().split("\0")
    numbers = [np.frombuffer(column, ">i8").astype(np.int64) for column in (sequences, started, ended)]
    width = len(vectors) // count - HALFVEC.itemsize
    rows = np.frombuffer(vectors, np.dtype([("head", HALFVEC), ("numbers", ">f2", width // 2)]))
    return Portion(
        [boots[i : i + BOOT] for i in range(0, len(boots), BOOT)], numbers[0],
        list(zip(names[::2], names[1::2], strict=True)), numbers[1], numbers[2], np.ascontiguousarray(rows["numbers"]),
    )  # fmt: skip
