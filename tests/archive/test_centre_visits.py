"""Visits of an archive in the centre's database: a real Postgres, each visit once, and found by the centre's search."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from centre_parts import MODEL, looks
from conftest import assert_user_error, call

pytest.importorskip("psycopg", reason="no psycopg: pip install personsearch[centre]")
pytest.importorskip("pyarrow", reason="needs personsearch[archive]")
import psycopg

from personsearch.archive.centre_visits import CentreVisits
from personsearch.archive.parts import Part, Row, write_part
from personsearch.archive.writing import join_all
from personsearch.centre.codes.table import Codes
from personsearch.centre.database.pool import connected
from personsearch.centre.database.searching import Filter, of_sighting, search
from personsearch.centre.settings import SearchSettings
from personsearch.core.errors import UserError

BEGIN = 1769900000.0  # 2026-01-31T22:53:20Z: visits go on over midnight
BOX = "cellar"


def part(out: Path, camera: str, number: int, people: Sequence[int]) -> Path:
    """A segment on disk in which each of these people was seen for some seconds, two hours after the one before."""
    begin, box = 7200.0 * number, np.array([0, 0, 10, 30], np.float32)
    video = f"/srv/{camera}.mp4"
    rows = [
        Row(
            f"s-{person:08x}{number:08x}", camera, BEGIN + begin + n, BEGIN + begin + n + 5, video, begin, person, 1,
            0.5, box, looks(person, 0.3, number), [], [], np.zeros((0, 4)), np.zeros((0, 16)), box, box,
        )
        for n, person in enumerate(people)
    ]  # fmt: skip
    about = {
        "state": "analysed", "camera": camera, "video": f"{camera}.mp4", "started": BEGIN, "number": number,
        "begin": begin, "end": begin + 7200,
    }  # fmt: skip
    write_part(out, Part(f"{camera}/{number:05}", 16, about, rows), crops=False)
    return out / "parts" / camera / f"{number:05}.parquet"


def archive(out: Path) -> list[Path]:
    return [part(out, "yard", 0, [1, 2, 3]), part(out, "yard", 1, [1, 4]), part(out, "hall", 0, [5])]


def joined(dsn: str, paths: Sequence[Path], box: str = BOX) -> int:
    """How many cameras were written."""
    return join_all(paths, CentreVisits(dsn, box, MODEL, 16), 60.0, 0.7)


def rows(dsn: str) -> dict[str, list[Any]]:
    """All that a writing leaves; with `xmin`, which any other writing changes."""
    with psycopg.connect(dsn) as connection:
        return {
            table: connection.execute(f"select xmin::text, * from {table} order by {order}").fetchall()
            for table, order in (("stays", "sighting"), ("tallies", "day, camera"), ("archives", "camera"),
                                 ("cameras", "camera"))
        }  # fmt: skip


def plain(found: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Without what each writing has of its own: its transaction and its boot."""
    return {
        table: [str([value for value in row[1:] if not isinstance(value, UUID)]) for row in content]
        for table, content in found.items()
    }  # fmt: skip


def test_the_centres_search_finds_visits_of_an_archive_and_says_in_which_video(tmp_path: Path, dsn: str) -> None:
    assert joined(dsn, archive(tmp_path)) == 2

    async def story() -> None:
        async with connected(dsn) as connection:
            codes = Codes()
            await codes.sync(connection)
            asked = await of_sighting(connection, f"s-{1:08x}{0:08x}")
            assert asked is not None
            for exact in (True, False):
                found = await search(connection, *asked, Filter(boxes=(BOX,)), 3, SearchSettings(), codes, exact)
                assert [hit["track"] for hit in found.hits[:2]] == [1, 1]  # he himself, and again after midnight
                again = found.hits[1]
                assert again["similarity"] > found.hits[2]["similarity"] + 0.2
                assert (again["camera"], again["video"], again["video_s"]) == ("yard", "/srv/yard.mp4", 7200.0)
                assert str(again["day"]) == "2026-02-01"
                assert found.among == 6
            found = await search(connection, *asked, Filter(cameras=(f"{BOX}/hall",)), 3, SearchSettings(), codes)
            assert [hit["track"] for hit in found.hits] == [5]

    asyncio.run(story())


def test_written_again_nothing_changes_and_what_is_gone_is_erased(tmp_path: Path, dsn: str) -> None:
    paths = archive(tmp_path)
    assert joined(dsn, paths) == 2
    before = rows(dsn)
    assert joined(dsn, paths) == 0
    assert rows(dsn) == before
    assert joined(dsn, paths[:1], "attic") == 1  # another archive takes nothing away
    assert {row for row in before["stays"]} <= set(rows(dsn)["stays"])
    assert joined(dsn, []) == 0
    assert CentreVisits(dsn, BOX, MODEL, 16).count() == 0
    assert CentreVisits(dsn, "attic", MODEL, 16).count() == 3
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select sum(stays) from tallies").fetchone() == (3,)
        assert connection.execute("select box from cameras").fetchall() == [("attic",)]
    assert join_all(paths[:1], CentreVisits(dsn, "attic", "f" * 16, 16), 60.0, 0.7) == 1  # another model's


WRITE = """
import sys
from pathlib import Path
from personsearch.archive.centre_visits import CentreVisits
from personsearch.archive.writing import join_all
dsn, model, *paths = sys.argv[1:]
join_all(map(Path, paths), CentreVisits(dsn, "cellar", model, 16), 60.0, 0.7)
"""


def test_killed_amid_writing_it_comes_to_the_same(tmp_path: Path, dsn: str) -> None:
    paths = archive(tmp_path)
    with psycopg.connect(dsn) as holding, psycopg.connect(dsn, autocommit=True) as watching:
        # The second day of the yard is to wait for this row, when the first day and the hall are written.
        holding.execute("insert into tallies values ('2026-02-01', 'cellar', 'yard', %s, 0)", [MODEL])
        process = subprocess.Popen([sys.executable, "-c", WRITE, dsn, MODEL, *map(str, paths)])
        end = time.monotonic() + 60
        while watching.execute(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        ).fetchone() == (0,):
            assert time.monotonic() < end, "it did not come so far"
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.kill()
        process.wait()
        holding.rollback()
        assert watching.execute("select camera from archives where made_of <> ''").fetchall() == [("hall",)]
        assert watching.execute("select count(*) from stays where camera = 'yard'").fetchone() == (3,)
        assert joined(dsn, paths) == 1
        left = plain(rows(dsn))
        assert len(left["stays"]) == 6
        watching.execute("truncate stays, tallies, cameras")
        watching.execute("update archives set made_of = ''")
    assert joined(dsn, paths) == 2
    assert plain(rows(dsn)) == left


def test_a_database_that_is_away_is_one_line_without_its_password(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "yard.mp4").touch()
    where = ("--videos", tmp_path, "--parts", tmp_path / "parts", "--box", BOX)
    for away in (f"postgresql://ada:hunter22@127.0.0.1:1/{BOX}", f"postgresql://ada:hunter22@/{BOX}?nonsense=1"):
        result = call("archive/index.py", *where, "--out", away)
        assert_user_error(result, "the database cannot be used")
        assert "hunter22" not in result.stdout + result.stderr
    writer = CentreVisits(dsn, BOX, MODEL, 16)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop table archives")
    with pytest.raises(UserError, match=r"takes nothing .*archives.* run this again"):
        writer.has("yard", "")
