"""The centre: a real hub, a real Postgres, and events as boxes send them, also twice, late, forged and from nowhere."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from centre_parts import (
    DIMENSIONS,
    KEY,
    MODEL,
    FakeBox,
    looks,
    new_database,
    number,
    running,
    send,
    settings_of,
    taken,
    until,
)
from conftest import assert_user_error, call
from fleet_parts import Server, forwarding, hub_in

from personsearch.core.errors import ConfigError, UserError
from personsearch.runtime.decisions.sighting import SeenView, Sighting, Stay
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.fleet.nats_sink import NatsSink
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.stays import StayTeller
from personsearch.runtime.fleet_settings import NatsSettings
from personsearch.runtime.operations.audit import verify
from personsearch.runtime.settings import JournalSettings, PublishSettings

pytest.importorskip("psycopg", reason="no psycopg: pip install personsearch[centre]")
from personsearch.centre.database.migrate import migrate
from personsearch.centre.house import House

ADA, BOB = "p-00000000ada0", "p-00000000b0b0"


@pytest.fixture(scope="module")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with hub_in(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def url(shared_hub: Server) -> str:
    """A hub with nothing in it."""
    import nats

    address = f"nats://127.0.0.1:{shared_hub.port}"

    async def empty() -> None:
        connection = await nats.connect(address)
        stream = connection.jetstream()
        for name in [info.config.name for info in await stream.streams_info()]:
            await stream.delete_stream(name)
        await connection.close()

    asyncio.run(empty())
    return address


# --- the schema -----------------------------------------------------------------------------------------------------


def test_the_schema_grows_from_nothing_and_once_is_as_good_as_again(database_server: str) -> None:
    import psycopg

    dsn = new_database(database_server)
    assert migrate(dsn) == migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute("select count(*) from sightings").fetchone() == (0,)
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(UserError, match="newer version"):
        migrate(dsn)
    with pytest.raises(UserError, match="cannot be used"):
        migrate(dsn.replace("host=", "host=/nowhere"))


# --- events ---------------------------------------------------------------------------------------------------------


def test_a_visit_goes_the_whole_way_from_a_boxs_journal_to_an_answer(tmp_path: Path, dsn: str, url: str) -> None:
    box = Publisher(
        PublishSettings(endpoint="tcp://127.0.0.1:*"),
        JournalSettings(path=str(tmp_path / "events.journal")),
        "entrance",
    )
    teller = StayTeller("entrance", MODEL, KEY, lambda _: looks(99) / 10, lambda _: True, box.publish)
    teller._allowed.add("door")
    now = time.time()
    stay = Stay("door", now - 5, now, 7, [SeenView(looks(1), 0.8, np.zeros(4, np.float32))])
    teller.tell(Sighting(number(1), None, None, now - 5, now), stay)
    teller.tell(Sighting(number(2), None, None, now - 5, now), Stay("attic", now - 5, now, 8, stay.views))  # not kept
    teller.tell(
        Sighting(number(3), None, None, now - 5, now), Stay("door", now - 5, now, 9, [])
    )  # nothing was described

    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        async with running(house) as client:
            await taken(house, 1)
            found = (await client.post("/v1/search", json={"sighting": number(1)})).json()
            assert [(hit["box"], hit["camera"], hit["track"]) for hit in found["hits"]] == [("entrance", "door", 7)]
            picture = {"embedding": looks(1).tolist(), "model": MODEL, "camera": "entrance/door"}
            (hit,) = (await client.post("/v1/search", json=picture)).json()["hits"]
            assert hit["similarity"] == pytest.approx(1, abs=1e-3)  # the camera's mean was taken off both

    with forwarding(lambda _: NatsSink(NatsSettings(url=url, create_stream=True), "entrance"), box, tmp_path / "state"):
        asyncio.run(story())
    box.close()
    assert looks(1).astype("<f2").tobytes() not in (tmp_path / "events.journal").read_bytes()


def test_events_twice_and_out_of_order_leave_one_visit_as_its_latest_event_says(
    tmp_path: Path, dsn: str, url: str
) -> None:
    box = FakeBox("entrance")
    midnight = (
        datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    )
    first = [
        box.sighting(number(1), "started", None),
        box.sighting(number(1), "updated", ADA, zones=["gate"]),
        box.sighting(number(1), "ended", ADA),
        box.stay(number(1), looks(1), ADA),
        box.sighting(number(2), "started", BOB, started=midnight + 1, last=midnight + 2),
        box.sighting(number(2), "ended", BOB, started=midnight - 1, last=midnight + 2),  # it began a day earlier
    ]

    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        async with running(house) as client:
            await send(url, [first[2], first[5], first[0], first[4]])
            await send(url, [*first, *first], ids=False)
            await taken(house, 16)
            counts = house.intake.counts
            assert (counts.stored, counts.duplicates) == (6, 10)
            visits = (await client.get("/v1/sightings", params={"since": "2020-01-01T00:00:00Z"})).json()
            assert [(visit["sighting"], visit["change"], visit["person"]) for visit in visits] == [
                (number(1), "ended", ADA), (number(2), "ended", BOB),
            ]  # fmt: skip
            assert visits[1]["started"] < visits[1]["last_seen"]
            whole = (await client.get(f"/v1/sightings/{number(1)}")).json()
            assert len(whole["stays"]) == 1
            ada = (await client.get("/v1/sightings", params={"person": ADA, "box": "entrance"})).json()
            assert [visit["sighting"] for visit in ada] == [number(1)]
            nobody = await client.get("/v1/sightings", params={"person": ADA, "box": "elsewhere"})
            assert nobody.json() == []

    asyncio.run(story())


def test_a_centre_that_was_down_catches_up_and_a_database_that_is_away_loses_nothing(
    tmp_path: Path, dsn: str, database_server: str, url: str
) -> None:
    import psycopg

    box, settings = FakeBox("entrance"), settings_of(tmp_path, url)
    name = dsn.partition("?")[0].rpartition("/")[2]

    def database(on: bool) -> None:
        with psycopg.connect(database_server, autocommit=True) as connection:
            connection.execute(f"alter database {name} allow_connections {str(on).lower()}")
            if not on:
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])

    async def story() -> None:
        await send(url, [box.sighting(number(n)) for n in range(300)])
        house = House(settings, dsn)
        async with running(house):
            await taken(house, 300)
        await send(url, [box.sighting(number(n)) for n in range(300, 600)])  # nobody takes them
        house = House(settings, dsn)
        async with running(house) as client:
            await taken(house, 300)
            assert house.intake.counts.duplicates == 0
            database(on=False)
            await send(url, [box.sighting(number(n)) for n in range(600, 700)])
            await until(lambda: "database" in house.intake.trouble)
            assert (await client.get("/healthz")).status_code == 503
            refused = await client.get("/v1/boxes")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            database(on=True)
            await until(lambda: house.intake.counts.stored == 400)
            await until(lambda: not house.intake.trouble)
            async with house.pool.connection() as connection:
                count = await (await connection.execute("select count(*) from sightings")).fetchone()
            assert count == (700,)

    asyncio.run(story())


def test_what_is_no_event_or_of_another_box_is_counted_and_holds_up_nobody(tmp_path: Path, dsn: str, url: str) -> None:
    good, bad, strange = FakeBox("entrance"), FakeBox("entrance", GroupKey(b"x" * 32)), FakeBox("somewhere")
    old = time.time() - 90 * 86400

    async def story() -> None:
        house = House(settings_of(tmp_path, url, boxes=["entrance", "hall"]), dsn)
        async with running(house) as client:
            await send(url, [good.sighting(number(1))])
            await send(url, [good.sighting(number(2))], box="hall")  # one box in another's name
            await send(url, [strange.sighting(number(3)), bad.stay(number(4), looks(4))])
            await send(url, [good.sighting("no number"), good.sighting(number(5), person="Ada")])
            await send(url, [good.sighting(number(6), zones=["a\x00b"])])  # what no database takes
            await send(
                url, [good.sighting(number(7), started=old), good.sighting(number(8), started=time.time() + 9e5)]
            )
            await send(url, [good.state("camera", "online", "door"), good.state("engine", "failed")])
            await taken(house, 11)
            counts = house.intake.counts
            assert counts.refused == {"other_box": 1, "unknown_box": 1, "sealed": 1, "malformed": 2, "database": 1}
            assert counts.left_out == {"too_old": 1, "future": 1}
            assert counts.stored == 3
            (box,) = (await client.get("/v1/boxes")).json()
            assert (box["box"], box["engine"], box["engine_reason"]) == ("entrance", "failed", "because")
            assert [(c["camera"], c["state"], c["cause"]) for c in box["cameras"]] == [("door", "online", "refused")]
            text = (await client.get("/metrics")).text
            assert 'personsearch_centre_events_refused_total{cause="unknown_box"} 1.0' in text
            assert 'personsearch_box_cameras{box="entrance",state="online"} 1.0' in text

    asyncio.run(story())


def test_days_go_when_their_time_is_over(tmp_path: Path, dsn: str, url: str) -> None:
    box, day = FakeBox("entrance"), 86400

    async def story() -> None:
        house = House(settings_of(tmp_path, url, retention={"days": 5}), dsn)
        async with running(house) as client:
            start = time.time()
            await send(url, [box.stay(number(n), looks(n), started=start - n * day) for n in range(5)])
            await send(url, [box.sighting(number(n), started=start - n * day) for n in range(5)])
            await taken(house, 10)
            later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3)
            async with house.pool.connection() as connection:
                assert len(await house.days.drop_old(connection, later)) == 2
                assert await house.days.drop_old(connection, later) == []
            everything = {"since": "2020-01-01T00:00:00Z"}
            assert len((await client.get("/v1/sightings", params=everything)).json()) == 3
            found = (await client.post("/v1/search", json={"sighting": number(0)})).json()
            assert (len(found["hits"]), found["among"]) == (3, 3)

    asyncio.run(story())


# --- search ---------------------------------------------------------------------------------------------------------


def test_search_finds_the_same_exactly_and_by_codes_with_filters_and_without(
    tmp_path: Path, dsn: str, url: str
) -> None:
    boxes = [FakeBox("entrance"), FakeBox("hall")]
    start = time.time() - 3600
    events = [
        boxes[n % 2].stay(number(n), looks(n % 40, 0.3, n), camera=f"c{n % 3}", started=start + n) for n in range(400)
    ]

    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        async with running(house) as client:
            empty = await client.post("/v1/search", json={"embedding": looks(1).tolist(), "model": MODEL})
            assert empty.json()["hits"] == []
            await send(url, events)
            await taken(house, 400)
            filters: list[dict[str, Any]] = [
                {}, {"boxes": ["hall"]}, {"cameras": ["entrance/c1"]}, {"boxes": ["nowhere"]},
                {"since": _iso(start + 100), "until": _iso(start + 110)},
            ]  # fmt: skip
            sizes = []
            for wanted in filters:
                asked = {"embedding": looks(7, 0.3, 1000).tolist(), "model": MODEL, "limit": 5, **wanted}
                exact, near = [
                    (await client.post("/v1/search", json={**asked, "exact": way})).json() for way in (True, False)
                ]
                assert [hit["sighting"] for hit in exact["hits"]] == [hit["sighting"] for hit in near["hits"]]
                assert (exact["exact"], near["exact"]) == (True, False)
                assert exact["hits"] == sorted(exact["hits"], key=lambda hit: -hit["similarity"])
                sizes.append(len(exact["hits"]))
            assert sizes == [5, 5, 5, 0, 5]
            best = (await client.post("/v1/search", json={"sighting": number(7), "limit": 10})).json()
            assert {int(hit["sighting"][2:], 16) % 40 for hit in best["hits"]} == {7}
            assert best["exact"]  # few are left, so nothing is approximate
            for asked, status in (
                ({"sighting": number(9999)}, 404), ({}, 422), ({"embedding": [0.0] * DIMENSIONS, "model": MODEL}, 422),
                ({"embedding": looks(1).tolist()}, 422), ({"sighting": number(1), "limit": 100000}, 422),
            ):  # fmt: skip
                assert (await client.post("/v1/search", json=asked)).status_code == status

    asyncio.run(story())


def test_a_visit_is_followed_over_boxes_by_travel_times_and_looks(tmp_path: Path, dsn: str, url: str) -> None:
    entrance, hall, yard = FakeBox("entrance"), FakeBox("hall"), FakeBox("yard")
    t = time.time() - 1000
    ways = [
        {"a": "entrance/door", "b": "hall/lift", "seconds": "20-60s"},
        {"a": "hall/lift", "b": "yard/gate", "seconds": "60s"},
    ]
    events = [
        entrance.stay(number(1), looks(1), started=t, ended=t + 10),
        hall.stay(number(2), looks(1, 0.3, 2), camera="lift", started=t + 40, ended=t + 50),
        hall.stay(number(3), looks(2), camera="lift", started=t + 41, ended=t + 50),  # looks like somebody else
        hall.stay(number(4), looks(1, 0.1, 4), camera="lift", started=t + 15, ended=t + 20),  # too fast
        yard.stay(number(5), looks(1, 0.3, 5), BOB, camera="gate", started=t + 60, ended=t + 70),
        yard.sighting(number(5), "ended", BOB, camera="gate", started=t + 60, last=t + 70),
        yard.stay(number(6), looks(1, 0.6, 6), ADA, camera="gate", started=t + 61, ended=t + 70),
        yard.sighting(number(6), "ended", ADA, camera="gate", started=t + 61, last=t + 70),
        hall.sighting(number(2), "ended", ADA, camera="lift", started=t + 40, last=t + 50),
    ]

    async def story() -> None:
        house = House(settings_of(tmp_path, url, follow={"ways": ways}), dsn)
        async with running(house) as client:
            await send(url, events)
            await taken(house, len(events))
            for asked in (1, 2, 6):
                way = (await client.get(f"/v1/sightings/{number(asked)}/way")).json()
                assert [part["sighting"] for part in way] == [number(1), number(2), number(6)]
                assert [part["asked"] for part in way].index(True) == [1, 2, 6].index(asked)
            assert [part["by"] for part in way] == ["looks", "name", None]
            assert way[0]["after_s"] == pytest.approx(30, abs=0.01)
            assert (await client.get(f"/v1/sightings/{number(77)}/way")).status_code == 404

    asyncio.run(story())


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat()


# --- access ---------------------------------------------------------------------------------------------------------


def test_nobody_is_answered_without_a_key_that_may(tmp_path: Path, dsn: str, url: str) -> None:
    from personsearch.centre.access import add_key, remove_key

    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        desk = add_key(house.settings.keys, "desk", ("search",))
        async with running(house) as client:
            paths = (await client.get("/openapi.json")).json()["paths"]
            assert {"/v1/sightings", "/v1/search", "/v1/boxes", "/v1/groups/{group}/people", "/metrics"} <= set(paths)
            del client.headers["Authorization"]
            for path, methods in paths.items():
                for method in methods:
                    answer = await client.request(method, path.replace("{group}", "site"))
                    assert answer.status_code == (401 if path != "/healthz" else answer.status_code), (method, path)
                    assert "psc_" not in answer.text
            for key in ("", "x", desk[:-1], desk + "x", "ä"):
                headers = {"Authorization": f"Bearer {key}".encode()}
                assert (await client.get("/v1/sightings", headers=headers)).status_code == 401
            client.headers["Authorization"] = f"Bearer {desk}"
            assert (await client.get("/v1/sightings")).status_code == 200
            for path in ("/v1/boxes", "/metrics", "/v1/groups/site/people"):
                assert (await client.get(path)).status_code == 403
            remove_key(house.settings.keys, "desk")
            assert (await client.get("/v1/sightings")).status_code == 401
        assert desk not in Path(house.settings.keys).read_text()
        assert Path(house.settings.keys).stat().st_mode & 0o077 == 0

    asyncio.run(story())


def test_settings_refuse_what_would_be_open(tmp_path: Path) -> None:
    for words, more in (
        ("keys would travel unencrypted", {"listen": {"address": "0.0.0.0"}}),
        ("belong together", {"listen": {"certificate": "a.pem"}}),
        ("unencrypted; use tls://", {"nats": {"url": "nats://hub.example"}}),
        ("must differ", {"groups": [{"group": "a", "key": "file:x"}] * 2}),
    ):
        with pytest.raises(ValueError, match=words):
            settings_of(tmp_path, "nats://127.0.0.1", **more)
    with pytest.raises(UserError, match="cannot be read"):
        House(settings_of(tmp_path, "nats://127.0.0.1", groups=[{"group": "a", "key": "file:nowhere"}]), "")
    (tmp_path / "centre.keys").write_text("{")
    with pytest.raises(ConfigError, match="not a readable file of keys"):
        House(settings_of(tmp_path, "nats://127.0.0.1"), "")


def test_searches_are_on_record_by_id_and_the_chain_holds(tmp_path: Path, dsn: str, url: str) -> None:
    async def story() -> None:
        house = House(settings_of(tmp_path, url), dsn)
        async with running(house) as client:
            await client.get("/v1/sightings", params={"person": ADA})
            await client.post("/v1/search", json={"sighting": number(1)})
            (tmp_path / "centre.audit").rename(tmp_path / "kept")
            (tmp_path / "centre.audit").mkdir()
            refused = await client.get("/v1/sightings", params={"person": ADA})  # what cannot be on record is not done
            assert refused.status_code == 409
            assert "audit log" in refused.json()["detail"]

    asyncio.run(story())
    assert verify(tmp_path / "kept").fault == ""
    lines = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
    assert [(line["kind"], line.get("person"), line.get("sighting")) for line in lines] == [
        ("searched", ADA, None), ("searched", None, number(1)),
    ]  # fmt: skip


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("centre/serve.py", "write-config").returncode == 0
    assert_user_error(call("centre/serve.py", "write-config"), "exists already")
    assert_user_error(call("centre/serve.py", "--config", "none/centre.yaml", "write-config"), "cannot be written")
    assert call("centre/serve.py", "add-key", "desk", "search", "health").stdout.startswith("psc_")
    assert_user_error(call("centre/serve.py", "add-key", "desk", "search"), "a key 'desk' already")
    assert_user_error(call("centre/serve.py", "add-key", "root", "everything"), "expected one or more of search")
    assert_user_error(call("centre/serve.py", "add-key"), "give the key's name")
    assert call("centre/serve.py", "list-keys").stdout == "desk\tsearch health\n"
    assert call("centre/serve.py", "remove-key", "desk").returncode == 0
    assert_user_error(call("centre/serve.py", "remove-key", "desk"), "there is no key 'desk'")
    assert_user_error(call("centre/serve.py", "check", "more"), "takes no further words")
    (tmp_path / "centre.yaml").write_text("nats: {url: 'nats://127.0.0.1'}\ndatabase: {folders: x}\n")
    assert_user_error(call("centre/serve.py", "check"), "unknown key 'database.folders'")
    dsn = "postgresql://ps:very-secret@127.0.0.1:1/ps"
    (tmp_path / "centre.yaml").write_text(f"nats: {{url: 'nats://127.0.0.1'}}\ndatabase: {{dsn: '{dsn}'}}\n")
    result = call("centre/serve.py", "check")
    assert_user_error(result, "the database cannot be used")
    assert "very-secret" not in result.stderr
