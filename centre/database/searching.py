"""Who of all boxes' stays looks like this one? Exact where a filter leaves few, else by codes in memory.

The codes say which stays are worth a look; the database has those compared by their embeddings, and the best are ranked
once more in float32. Which of both was done stands in the answer. What the database does not have is never found.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector
from psycopg import AsyncConnection, sql

from personsearch.centre.codes.table import DISORDER, Codes
from personsearch.centre.settings import SearchSettings
from personsearch.runtime.decisions.centring import centred

if TYPE_CHECKING:
    from typing_extensions import LiteralString

COLUMNS = (
    "day", "boot", "sequence", "sighting", "box", "camera", "person", "stranger", "started", "ended", "track", "views",
    "quality", "video", "video_s",
)  # fmt: skip
CANDIDATES: LiteralString = (
    "unnest(%s::date[], %s::uuid[], %s::bigint[]) as c(day, boot, sequence) join stays using (day, boot, sequence)"
)
SPARE = 3  # stays compared exactly for one that is wanted, at the least
OTHER_WAYS = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")  # than one by one, by their keys


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

    def places(self) -> list[tuple[str, str | None]]:
        """Boxes, and cameras of boxes, of which both must allow a stay; empty: everywhere."""
        cameras = [(box, camera) for box, _, camera in (place.rpartition("/") for place in self.cameras)]
        if not cameras:
            return [(box, None) for box in self.boxes]
        return [(box, camera) for box, camera in cameras if not self.boxes or box in self.boxes] or [("", "")]

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
    codes: Codes, exact: bool | None = None,
) -> Found:  # fmt: skip
    """The stays most like the query (D,), which is centred and L2-normalised.

    codes  while they are not ready, every search is exact
    exact  True or False: do not decide by the number of stays that the filter leaves
    """
    among = await _among(connection, model, wanted)
    if exact is None:
        exact = among <= settings.exact_below
    exact = exact or not codes.ready
    source, keys, parameters = "stays", [], {}  # type: LiteralString, list[str], dict[str, Any]
    if not exact:
        refined, count = max(settings.refined, limit), max(settings.reranked, SPARE * limit)
        few = await codes.candidates(query, model, wanted.since, wanted.until, wanted.places(), refined, count)
        source, parameters = CANDIDATES, {"reranked": len(few.days)}
        keys = [_array(few.days), _array(few.boots), _array(few.sequences)]
    condition, given = wanted.condition()
    statement = sql.SQL(
        "select {}, described from {} where model = %s and {} order by described::halfvec({}) <=> %s limit %s"
    ).format(sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), sql.SQL(source), condition, sql.SQL(str(len(query))))
    async with connection.transaction():
        await connection.execute("select set_config(name, 'off', true) from unnest(%s::text[]) as s(name)", [
            ["jit"] if exact else ["jit", *OTHER_WAYS]
        ])  # fmt: skip
        rows = await connection.execute(statement, [*keys, model, *given, HalfVector(query.astype(np.float16)), limit])
        return Found(_ranked(await rows.fetchall(), query, limit), exact, among, parameters)


async def _among(connection: AsyncConnection, model: str, wanted: Filter) -> int:
    condition, given = wanted.days()
    statement = sql.SQL("select coalesce(sum(stays), 0) from tallies where model = %s and {}").format(condition)
    row = await (await connection.execute(statement, [model, *given])).fetchone()
    return int(row[0]) if row else 0


def _array(values: Sequence[object]) -> str:
    """As Postgres writes arrays; psycopg takes four times as long for two thousand keys."""
    return "{" + ",".join(map(str, values)) + "}"


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
