"""Who of all boxes' stays looks like this one? Exact where a filter leaves few, else by each day's index.

The index gives more candidates than are wanted, which are ranked again exactly, in float32. Which of both was done
stands in the answer. A filtered search by index goes on until it has enough (`hnsw.iterative_scan`).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pgvector import HalfVector
from psycopg import AsyncConnection, sql

from personsearch.centre.settings import SearchSettings
from personsearch.runtime.decisions.centring import centred

COLUMNS = (
    "day", "boot", "sequence", "sighting", "box", "camera", "person", "stranger", "started", "ended", "track", "views",
    "quality", "video", "video_s",
)  # fmt: skip
DISORDER = datetime.timedelta(days=1)  # a stay may have begun so long before a range that it overlaps


@dataclass(frozen=True)
class Filter:
    """Stays that overlap a time, in these boxes and cameras (BOX/CAMERA); empty: in all."""

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    boxes: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()

    def condition(self) -> tuple[sql.Composed, list[Any]]:
        """A condition on stays and what it holds."""
        parts: list[sql.Composable] = []
        given: list[Any] = []
        if self.since is not None:
            parts.append(sql.SQL("day >= %s and ended >= %s"))
            given += [(self.since - DISORDER).date(), self.since]
        if self.until is not None:
            parts.append(sql.SQL("day <= %s and started <= %s"))
            given += [self.until.date(), self.until]
        parts += self._places(given)
        return sql.SQL(" and ").join([sql.SQL("true"), *parts]), given

    def days(self) -> tuple[sql.Composed, list[Any]]:
        """The same for tallies: whole days."""
        parts: list[sql.Composable] = []
        given: list[Any] = []
        if self.since is not None:
            parts.append(sql.SQL("day >= %s"))
            given.append((self.since - DISORDER).date())
        if self.until is not None:
            parts.append(sql.SQL("day <= %s"))
            given.append(self.until.date())
        parts += self._places(given)
        return sql.SQL(" and ").join([sql.SQL("true"), *parts]), given

    def _places(self, given: list[Any]) -> list[sql.Composable]:
        parts: list[sql.Composable] = []
        if self.boxes:
            parts.append(sql.SQL("box = any(%s)"))
            given.append(list(self.boxes))
        if self.cameras:
            pairs = [place.rpartition("/") for place in self.cameras]
            parts.append(sql.SQL("(box, camera) in (select * from unnest(%s::text[], %s::text[]))"))
            given += [[box for box, _, _ in pairs], [camera for _, _, camera in pairs]]
        return parts


@dataclass(frozen=True)
class Found:
    """hits  the most alike first, each with `similarity`; exact, compared  how they were found, and among how many"""

    hits: list[dict[str, Any]]
    exact: bool
    among: int
    parameters: dict[str, Any] = field(default_factory=dict)


async def search(
    connection: AsyncConnection, query: np.ndarray, model: str, wanted: Filter, limit: int, settings: SearchSettings,
    exact: bool | None = None,
) -> Found:  # fmt: skip
    """The stays most like the query (D,), which is centred and L2-normalised.

    exact  True or False: do not decide by the number of stays that the filter leaves
    """
    among = await _among(connection, model, wanted)
    if exact is None:
        exact = among <= settings.exact_below
    condition, given = wanted.condition()
    vector, size = HalfVector(query.astype(np.float16)), sql.SQL(str(len(query)))
    # The sum keeps the planner from the index; `model` is written out because the indexes are partial.
    order = sql.SQL("(described::halfvec({}) <=> %s){}").format(size, sql.SQL(" + 0.0" if exact else ""))
    count = limit if exact else limit * settings.candidates
    statement = sql.SQL("select {}, described from stays where model = {} and {} order by {} limit %s").format(
        sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), model, condition, order
    )
    async with connection.transaction():
        if not exact:
            await connection.execute(sql.SQL("set local hnsw.ef_search = {}").format(settings.ef))
            await connection.execute("set local hnsw.iterative_scan = relaxed_order")
            await connection.execute(sql.SQL("set local hnsw.max_scan_tuples = {}").format(settings.most_scanned))
            await connection.execute("set local enable_seqscan = off")  # a day that is small has an index as well
        await connection.execute("set local jit = off")
        rows = await (await connection.execute(statement, [*given, vector, count])).fetchall()
    parameters = {} if exact else {"ef": settings.ef, "candidates": count, "most_scanned": settings.most_scanned}
    return Found(_ranked(rows, query, limit), exact, among, parameters)


async def _among(connection: AsyncConnection, model: str, wanted: Filter) -> int:
    condition, given = wanted.days()
    statement = sql.SQL("select coalesce(sum(stays), 0) from tallies where model = %s and {}").format(condition)
    row = await (await connection.execute(statement, [model, *given])).fetchone()
    return int(row[0]) if row else 0


def _ranked(rows: list[Any], query: np.ndarray, limit: int) -> list[dict[str, Any]]:
    """By cosine in float32."""
    if not rows:
        return []
    vectors = np.stack([row[-1].to_numpy() for row in rows]).astype(np.float32)
    cosines = vectors @ query.astype(np.float32) / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
    order = np.argsort(-cosines, kind="stable")[:limit]
    return [
        {**dict(zip(COLUMNS, rows[i], strict=False)), "similarity": float(cosines[i])} for i in order.tolist()
    ]  # fmt: skip


# --- queries ----------------------------------------------------------------------------------------------------------


async def of_sighting(connection: AsyncConnection, sighting: str) -> tuple[np.ndarray, str] | None:
    """The mean (D,) of a visit's stays, as they are compared, and their model; None for one that is not kept."""
    rows = await (await connection.execute(
        "select model, described from stays where sighting = %s order by ended desc limit 100", [sighting]
    )).fetchall()  # fmt: skip
    if not rows:
        return None
    model = rows[0][0]
    mean = np.mean([row[1].to_numpy().astype(np.float32) for row in rows if row[0] == model], axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9), model


async def of_embedding(
    connection: AsyncConnection, embedding: np.ndarray, model: str, place: str
) -> tuple[np.ndarray, int]:
    """An embedding (D,) of a picture less the mean of where it comes from: a camera (BOX/CAMERA), or, of a picture from
    nowhere known, the mean of all cameras. And how many cameras' means there are."""
    box, _, camera = place.rpartition("/")
    rows = await (await connection.execute(
        "select mean, box = %s and camera = %s from cameras where model = %s and mean is not null", [box, camera, model]
    )).fetchall()  # fmt: skip
    means = {bool(own): [] for own in (True, False)}  # type: dict[bool, list[np.ndarray]]
    for mean, own in rows:
        vector = np.frombuffer(mean, "<f2").astype(np.float32)
        if vector.shape == embedding.shape:
            means[own].append(vector)
    chosen = means[True] or means[False]
    offset = np.mean(chosen, axis=0) if chosen else np.zeros_like(embedding)
    unit = embedding / max(float(np.linalg.norm(embedding)), 1e-9)
    return centred(unit.astype(np.float32), offset.astype(np.float32)), len(rows)
