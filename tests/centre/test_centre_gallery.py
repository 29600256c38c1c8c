"""People who are shared from the centre, and forgotten everywhere: also by a box that was away, and by late events."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from centre_parts import FakeBox, looks, number, running, send, settings_of, taken, until
from fleet_parts import hub_in
from shared_parts import SharingBox

pytest.importorskip("psycopg", reason="no psycopg: pip install personsearch[centre]")

from personsearch.centre.house import House


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with hub_in(tmp_path / "hub") as hub:
        yield f"nats://127.0.0.1:{hub.port}"


def jpeg(grey: int) -> str:
    return base64.b64encode(cv2.imencode(".png", np.full((64, 32, 3), grey, np.uint8))[1].tobytes()).decode()


def engine():  # type: ignore[no-untyped-def]
    return lambda picture, boxes: np.array([looks(int(picture[0, 0, 0])) for _ in boxes])


def test_people_are_enrolled_changed_and_removed_from_the_centre(tmp_path: Path, dsn: str, url: str) -> None:
    a, b = (SharingBox(tmp_path, name, url, engine=engine) for name in ("a", "b"))
    groups = [{"group": "site", "key": f"file:{tmp_path / 'group.key'}", "boxes": ["a", "b", "c"]}]

    async def story() -> None:
        house = House(settings_of(tmp_path, url, groups=groups), dsn)
        async with running(house) as client, a.online(), b.online():
            await until(lambda: not house.galleries["site"].trouble)
            place = "/v1/groups/site/people"
            new = {"name": "Ada", "pictures": [{"data": jpeg(5)}, {"data": jpeg(6), "box": [0, 0, 32, 60]}]}
            made = (await client.post(place, json={**new, "labels": ["staff"], "expires": "2099-01-31"})).json()
            await until(lambda: a.names() == b.names() == ["Ada"])
            assert a.gallery().person("Ada").details.labels == ("staff",)
            assert len(a.gallery().names) == 2
            assert (await client.post(place, json=new)).status_code == 409  # the name is taken
            for wrong in (
                {"data": "!"},
                {"data": jpeg(5)[:40]},
                {"data": jpeg(5), "box": [0, 0, 90, 10]},
                {"data": ""},
            ):
                assert (await client.post(place, json={"name": "Eve", "pictures": [wrong]})).status_code == 422
            await client.patch(f"{place}/{made['id']}", json={"name": "Ada L.", "note": "hello"})
            await until(lambda: a.names() == b.names() == ["Ada L."])
            states = {}

            async def here() -> bool:
                rows = (await client.get(f"{place}/{made['id']}")).json()["holders"]
                states.update({row["box"]: row["state"] for row in rows})
                return states == {"a": "here", "b": "here", "c": "silent"}

            await until(here)
            found = (await client.get("/v1/sightings", params={"name": "Ada L."})).status_code
            assert found == 200
            assert (await client.get("/v1/sightings", params={"name": "Ada"})).status_code == 404
            assert (await client.delete(f"{place}/{made['id']}")).status_code == 204
            await until(lambda: a.names() == b.names() == [])
            assert (await client.get(f"{place}/{made['id']}")).status_code == 404
            assert (await client.get("/v1/groups/nowhere/people")).status_code == 404
            text = (await client.get("/metrics")).text
            assert 'personsearch_gallery_people{group="site"} 0.0' in text

    asyncio.run(story())


def test_forgetting_spreads_while_a_box_is_away_which_erases_when_it_is_back(
    tmp_path: Path, dsn: str, url: str
) -> None:
    a, b = SharingBox(tmp_path, "a", url), SharingBox(tmp_path, "b", url)
    fake = FakeBox("b")
    a.enrol("Ada", looks(1))
    ada = a.gallery().id_of("Ada")
    evidence = {"runner_up": ada, "margin": 0.1, "similarity": 0.5}

    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        async with running(house) as client, a.online():
            async with b.online():
                await until(lambda: b.names() == ["Ada"])
                await until(lambda: "b" in house.galleries["site"].view.held)
            await send(url, [
                fake.sighting(number(1), "ended", ada), fake.stay(number(1), looks(1), None),
                fake.stay(number(1), looks(1), ada),
                fake.sighting(number(2), "ended", "p-00000000b0b0", evidence=evidence), fake.stay(number(2), looks(2)),
            ])  # fmt: skip
            await taken(house, 5)
            assert (await client.post("/v1/search", json={"sighting": number(1)})).json()["among"] == 3
            answer = (await client.post(f"/v1/groups/site/people/{ada}/forget")).json()
            assert (answer["complete"], "b" in answer["not_confirmed"]) == (False, True)
            await until(lambda: a.names() == [])
            # Late: b sends on what its journal had.
            await send(
                url, [fake.stay(number(3), looks(1), ada), fake.sighting(number(4), "updated", None, previous=ada)]
            )
            await taken(house, 7)
            assert house.intake.counts.left_out == {"forgotten": 2}
            everything = (await client.get("/v1/sightings", params={"since": "2020-01-01T00:00:00Z"})).json()
            assert [(visit["sighting"], visit["evidence"]["runner_up"]) for visit in everything] == [(number(2), None)]
            assert (await client.get(f"/v1/sightings/{number(1)}")).status_code == 404
            assert (await client.post("/v1/search", json={"sighting": number(2)})).json()["among"] == 1
            assert b.names() == ["Ada"]

            async def waiting() -> list[str]:
                (row,) = (await client.get("/v1/groups/site/forgotten")).json()
                return row["not_confirmed"]

            await until(lambda: a.sync.state.forgotten)
            assert "b" in await waiting()
            assert 'personsearch_gallery_pending{box="b",group="site"} 1.0' in (await client.get("/metrics")).text
            async with b.online():
                await until(lambda: b.names() == [])

                async def confirmed() -> bool:
                    return await waiting() == []

                await until(confirmed)
            async with house.pool.connection() as connection:
                for table in ("sightings", "stays", "received", "cameras", "boxes"):
                    rows = await (await connection.execute(f"select t::text from {table} t")).fetchall()
                    assert not [row for row in rows if ada in row[0]], table

    asyncio.run(story())
    assert "Ada" not in (tmp_path / "centre.audit").read_text()


def test_a_box_that_forgets_is_followed_by_the_centre(tmp_path: Path, dsn: str, url: str) -> None:
    from personsearch.runtime.operations.forget import forget

    a, fake = SharingBox(tmp_path, "a", url), FakeBox("b")
    a.enrol("Ada", looks(1))
    ada = a.gallery().id_of("Ada")

    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        async with running(house) as client:
            await send(url, [fake.sighting(number(1), "ended", ada), fake.stay(number(1), looks(1), ada)])
            await taken(house, 2)
            await asyncio.to_thread(forget, a.place, "Ada")  # while it is cut off, and was never shared
            async with a.online():

                async def gone() -> bool:
                    return (await client.get(f"/v1/sightings/{number(1)}")).status_code == 404

                await until(gone)

    asyncio.run(story())
