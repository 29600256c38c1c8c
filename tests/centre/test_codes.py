"""Codes in memory: what they find, and that they follow whatever writes and deletes in the database."""

from __future__ import annotations

import asyncio
import datetime
import json
import uuid
from typing import Any

import numpy as np
import pytest
from centre_parts import MODEL, FakeBox, looks, number

pytest.importorskip("faiss", reason="no faiss: pip install personsearch[centre]")
pytest.importorskip("psycopg", reason="no psycopg: pip install personsearch[centre]")
from personsearch.centre.codes.day import KEY, DayCodes
from personsearch.centre.codes.growing import Rows
from personsearch.centre.codes.table import Codes
from personsearch.centre.database.days import Days
from personsearch.centre.database.forgetting import forget
from personsearch.centre.database.migrate import migrate
from personsearch.centre.database.pool import connected
from personsearch.centre.database.store import Taken, take
from personsearch.centre.receiving.incoming import Incoming, read

KEY_OF_GROUP, ADA = FakeBox("x").key, "p-00000000ada0"


def incoming(box: FakeBox, n: int, **more: Any) -> Incoming:
    event = box.stay(number(n), looks(n), **more)
    return read(f"ps.{box.name}.stay.{event['camera']}", json.dumps(event).encode(), frozenset(), [KEY_OF_GROUP])


def test_codes_find_the_nearest_that_a_mask_leaves_and_nothing_that_was_removed() -> None:
    random = np.random.default_rng(3)
    views = random.standard_normal((3000, 100)).astype(np.float32)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    keys = np.zeros(3000, KEY)
    keys["sequence"] = np.arange(3000)
    codes = DayCodes(100, 1)
    for first in range(0, 3000, 700):
        codes.add(keys[first : first + 700], views[first : first + 700])
    query = views[123] + 0.7 * views[2000]
    best = np.argsort(-(views @ query))
    found, cosines = codes.nearest(query, 200, None)
    assert np.isin(best[:10], found["sequence"]).all()
    assert np.abs(cosines - views[found["sequence"]] @ query).max() < 0.06  # one bit alone errs by 0.3
    odd = np.arange(3000) % 2 == 1
    assert set(codes.nearest(query, 200, odd)[0]["sequence"] % 2) == {1}
    few = np.isin(np.arange(3000), [5, 6])  # fewer than are wanted: no estimate may lose one
    assert set(codes.nearest(query, 200, few)[0]["sequence"]) == {5, 6}
    codes.remove([123, 5])
    found, cosines = codes.nearest(query, 200, None)
    assert found["sequence"][cosines.argmax()] == 2000
    assert 123 not in codes.nearest(query, 3000, None)[0]["sequence"]


def test_rows_that_were_given_out_stay_as_they_are() -> None:
    rows = Rows(np.dtype(np.int64))
    given = []
    for n in range(100):
        rows.add(np.array([2 * n, 2 * n + 1]))
        given.append(rows.all)
    rows.delete([0, 7])
    rows.add(np.array([-1]))
    assert [list(before) for before in given] == [list(range(2 * n + 2)) for n in range(100)]
    assert list(rows.all) == [n for n in range(200) if n not in (0, 7)] + [-1]


def test_codes_are_as_the_database_is_whoever_writes_or_deletes(dsn: str) -> None:
    box, now = FakeBox("hall"), datetime.datetime.now(datetime.timezone.utc)
    days, codes = Days(30), Codes()

    async def story() -> None:
        async with connected(dsn) as connection:

            async def write(*numbers: int, **more: Any) -> Taken:
                return await take(connection, days, [incoming(box, n, **more) for n in numbers], now)

            def here(table: Codes) -> list[tuple[str, list[int]]]:
                return [(str(part), sorted(codes.keys["sequence"].tolist())) for part, codes in table.parts.items()]

            async def fresh() -> list[tuple[str, list[int]]]:
                table = Codes()
                await table.sync(connection)
                return here(table)

            await codes.sync(connection)
            for taken in (await write(1, 2, person=ADA), await write(3)):
                await codes.add(taken.stays, taken.versions)
            assert here(codes) == await fresh() != []
            await write(4)  # by another program
            taken = await write(5)
            await codes.add(taken.stays, taken.versions)  # what came between is missing: not taken for complete
            await codes.sync(connection)
            assert [len(numbers) for _, numbers in here(codes)] == [5]
            near = await codes.candidates(looks(4), MODEL, None, None, [("hall", "door")], 5, 5)
            assert (uuid.UUID(box.boot), 4) in zip(near.boots, near.sequences, strict=True)
            nobody = await codes.candidates(looks(4), MODEL, None, None, [("hall", "attic")], 5, 5)
            assert nobody.sequences == []
            await forget(connection, ADA)
            await codes.sync(connection)
            assert [numbers for _, numbers in here(codes)] == [[3, 4, 5]]
            await days.drop_old(connection, now + datetime.timedelta(days=40))
            await codes.sync(connection)
            assert len(codes) == 0

    asyncio.run(story())


def test_an_older_database_keeps_its_stays_and_loses_its_graphs(dsn: str) -> None:
    import psycopg

    box, now = FakeBox("hall"), datetime.datetime.now(datetime.timezone.utc)

    async def story() -> None:
        async with connected(dsn) as connection:
            await take(connection, Days(30), [incoming(box, n) for n in (1, 2)], now)
        with psycopg.connect(dsn, autocommit=True) as plain:  # as revision 0002 left it
            (day,) = plain.execute("select min(day) from stays").fetchone() or ()
            plain.execute("drop table stay_versions")
            plain.execute(
                f"create index on stays_{day:%Y%m%d} using hnsw ((described::halfvec(16)) halfvec_cosine_ops)"
            )
            plain.execute("update alembic_version set version_num = '0002'")
        migrate(dsn)
        async with connected(dsn) as connection:
            codes = Codes()
            await codes.sync(connection)
            assert len(codes) == 2
            rows = await connection.execute("select count(*) from pg_indexes where indexdef like '%%hnsw%%'")
            assert await rows.fetchone() == (0,)

    asyncio.run(story())
