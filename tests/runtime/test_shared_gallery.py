"""One gallery of many boxes: the rule for conflicts, and boxes that share over a real hub, cut off and back again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from centre_parts import KEY, SECRET, looks, until
from conftest import REPOSITORY
from fleet_parts import Server, hub_in
from shared_parts import SharingBox

from personsearch.core.bundle import read_manifest
from personsearch.runtime.decisions.gallery_file import enrol, load_or_begin
from personsearch.runtime.decisions.person import Crop, Details, EnrolledView, Person
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.fleet.bucket import Bucket
from personsearch.runtime.fleet.group import GroupView, gone_record
from personsearch.runtime.fleet.nats_connection import Hub
from personsearch.runtime.fleet.process import ForwarderProcess
from personsearch.runtime.fleet.reconcile import Known, known_of, reconcile
from personsearch.runtime.fleet.shared_record import Header, Shared, Stamp, digest, inward, opened, outward, sealed
from personsearch.runtime.fleet.shared_state import load_state, state_file
from personsearch.runtime.fleet_settings import NatsSettings
from personsearch.runtime.operations.forget import Eraser, forget
from personsearch.runtime.settings import JournalSettings, PublishSettings

ADA = Person("p-00000000ada0", "Ada", enrolled=1000.0, views=(EnrolledView(looks(1)),))
A, B = Stamp(3, "a"), Stamp(4, "b")


def views(person: Person | None) -> set[bytes]:
    return {view.embedding.tobytes() for view in person.views} if person else set()


# --- the rule ---------------------------------------------------------------------------------------------------------


def test_nobody_known_to_anybody_is_nothing_to_do() -> None:
    outcome = reconcile(None, Known(), None, Stamp(), "a")
    assert (outcome.person, outcome.publish) == (None, False)


def test_one_side_that_changed_alone_is_taken() -> None:
    known, renamed = known_of(ADA, A), replace(ADA, name="Ada L.")
    here = reconcile(renamed, known, ADA, A, "here")
    assert (here.person, here.publish, here.stamp) == (renamed, True, Stamp(4, "here"))
    there = reconcile(ADA, known, renamed, B, "here")
    assert (there.person.name, there.publish, there.stamp) == ("Ada L.", False, B)
    assert reconcile(None, known, ADA, A, "here").publish  # removed here
    assert reconcile(ADA, known, None, B, "here").person is None  # removed there
    assert reconcile(ADA, Known(), None, Stamp(), "here").stamp == Stamp(1, "here")  # enrolled here
    assert reconcile(None, Known(), ADA, A, "here").person is ADA


def test_views_of_both_sides_stay_and_those_that_one_took_out_go() -> None:
    base = replace(ADA, views=(EnrolledView(looks(1)), EnrolledView(looks(2))))
    known = known_of(base, A)
    ours = replace(base, views=(base.views[0], EnrolledView(looks(3))))  # without the second
    theirs = replace(base, views=(*base.views, EnrolledView(looks(4))))
    outcome = reconcile(ours, known, theirs, B, "here")
    assert views(outcome.person) == {looks(n).tobytes() for n in (1, 3, 4)}
    assert outcome.publish
    assert outcome.stamp == Stamp(5, "here")


@pytest.mark.parametrize("box", ["aa", "zz"])
def test_both_sides_come_to_the_same_whoever_looks_first(box: str) -> None:
    """Two boxes rename and add at the same version; the later box by name says the name."""
    known = known_of(ADA, A)
    other = {"aa": "zz", "zz": "aa"}[box]
    ours = replace(ADA, name=f"by {box}", views=(*ADA.views, EnrolledView(looks(5))))
    theirs = replace(ADA, name=f"by {other}", views=(*ADA.views, EnrolledView(looks(6))))
    first = reconcile(theirs, known, ADA, A, other)
    assert first.publish
    merged = reconcile(ours, known, first.person, first.stamp, box)
    assert merged.person.name == "by zz"
    assert len(merged.person.views) == 3
    back = reconcile(theirs, known_of(first.person, first.stamp), merged.person, merged.stamp, other)
    assert digest(back.person) == digest(merged.person)
    assert not back.publish


def test_a_removal_and_a_change_at_the_same_time_are_decided_by_the_stamp() -> None:
    known, renamed = known_of(ADA, A), replace(ADA, name="Ada L.")
    assert reconcile(renamed, known, None, Stamp(4, "a"), "b").person.name == "Ada L."
    assert reconcile(renamed, known, None, Stamp(4, "c"), "b").person is None
    assert reconcile(None, known, renamed, Stamp(4, "c"), "b").person.name == "Ada L."
    assert reconcile(None, known, renamed, Stamp(5, "a"), "b").person.name == "Ada L."
    removed = reconcile(None, known, renamed, Stamp(4, "a"), "b")
    assert (removed.person, removed.publish, removed.stamp) == (None, True, Stamp(5, "b"))


def test_what_the_group_lost_is_told_again() -> None:
    known = known_of(ADA, B)
    for theirs, stamp in ((None, Stamp()), (ADA, A)):
        outcome = reconcile(ADA, known, theirs, stamp, "here")
        assert (outcome.person, outcome.publish, outcome.stamp) == (ADA, True, B)


def test_a_record_is_bound_to_its_key_and_its_header() -> None:
    from centre_parts import KEY, MODEL

    header = Header(id=ADA.id, model=MODEL, dimensions=16, state="here", version=3, box="a", time=1.0)
    data = sealed(Shared(header, ADA), KEY)
    assert digest(opened(header.key, data, KEY).person) == digest(ADA)
    assert b"Ada" not in data
    with pytest.raises(ValueError, match="another key"):
        opened(f"p-00000000ada1.{MODEL}", data, KEY)
    with pytest.raises(ValueError, match="damaged"):
        opened(header.key, data.replace(b'"version":3', b'"version":9'), KEY)
    for cut in (b"", data[:3], data[:40], data[:-1]):
        with pytest.raises(ValueError):  # noqa: PT011
            opened(header.key, cut, KEY)


def test_cameras_carry_their_boxs_name_outside_of_it() -> None:
    views = (EnrolledView(looks(1), "door"), EnrolledView(looks(2)), EnrolledView(looks(3), "hall/door"))
    out = outward(replace(ADA, views=views), "entrance 1")
    assert [view.source for view in out.views] == ["entrance%201/door", "picture", "hall/door"]
    assert [view.source for view in inward(out, "entrance 1").views] == ["door", "picture", "hall/door"]
    assert [view.source for view in inward(out, "hall").views] == ["entrance%201/door", "picture", "door"]


# --- over a hub -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Server]:
    with hub_in(tmp_path / "hub") as server:
        yield server


def url_of(hub: Server) -> str:
    return f"nats://127.0.0.1:{hub.port}"


@contextlib.asynccontextmanager
async def online(*boxes: SharingBox) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for box in boxes:
            await stack.enter_async_context(box.online())
        yield


def test_people_reach_other_boxes_and_changes_made_while_cut_off_are_brought_together(
    tmp_path: Path, hub: Server
) -> None:
    a, b = (SharingBox(tmp_path, name, url_of(hub)) for name in ("a", "b"))

    async def story() -> None:
        a.enrol("Ada", looks(1), source="door")
        async with online(a, b):
            await until(lambda: b.names() == ["Ada"])
            assert b.gallery().sources == ["a/door"]
            b.enrol("Bob", looks(2))
            await until(lambda: a.names() == ["Ada", "Bob"])
        # Cut off, both work on.
        a.change(lambda g: g.rename("Ada", "Ada Lovelace"))
        a.enrol("Ada Lovelace", looks(1, 0.3, 1))
        b.enrol("Ada", looks(1, 0.3, 2))
        b.change(lambda g: g.remove("Bob"))
        async with online(a, b):
            await until(lambda: a.names() == b.names() == ["Ada Lovelace"])
            await until(lambda: len(a.gallery().names) == len(b.gallery().names) == 3)
            assert a.gallery().sources.count("door") == 1
            # One is killed at the hub's side, and comes back.
            hub.kill()
            a.enrol("Eve", looks(3))
            hub.start()
            await until(lambda: "Eve" in b.names())
            # What was removed can be taken back, and is somebody again for all.
            a.change(lambda g: g.remove("Eve"))
            await until(lambda: "Eve" not in b.names())
            from personsearch.runtime.decisions.gallery_file import undo

            undo(*(a.place.gallery, a.model, a.place.dimensions))
            await until(lambda: "Eve" in b.names())
        assert a.gallery().names_by_id() == b.gallery().names_by_id()

    asyncio.run(story())


def test_two_people_of_one_name_stay_two_on_all_boxes(tmp_path: Path, hub: Server) -> None:
    a, b = (SharingBox(tmp_path, name, url_of(hub)) for name in ("a", "b"))

    async def story() -> None:
        a.enrol("Ada", looks(1))
        b.enrol("Ada", looks(2))
        first, second = sorted((a.gallery().id_of("Ada"), b.gallery().id_of("Ada")))
        async with online(a, b):
            await until(lambda: a.gallery().names_by_id() == b.gallery().names_by_id() != {})
            await until(lambda: a.gallery().names_by_id() == {first: "Ada", second: f"Ada ({second})"})
            await until(lambda: b.gallery().names_by_id() == {first: "Ada", second: f"Ada ({second})"})

    asyncio.run(story())


def said_to_be_held(box: SharingBox, other: str) -> dict[str, int]:
    """What another box has told the group, as far as it has come to this one."""
    view = GroupView(KEY)
    view.take(dict(box.sync.bucket.entries))
    return view.held[other].people if other in view.held else {}


def test_forgetting_reaches_a_box_that_was_away_and_its_other_files(tmp_path: Path, hub: Server) -> None:
    erased: list[str] = []
    eraser = Eraser("history", lambda who: erased.append(who.id) or 1)
    a, b = SharingBox(tmp_path, "a", url_of(hub)), SharingBox(tmp_path, "b", url_of(hub), erasers=(eraser,))

    async def story() -> None:
        a.enrol("Ada", looks(1))
        a.enrol("Bob", looks(2))
        async with online(a, b):
            await until(lambda: b.names() == ["Ada", "Bob"])
            ada = a.gallery().id_of("Ada")
            await until(lambda: ada in said_to_be_held(a, "b"))  # only then it may go away
        b.change(lambda g: g.rename("Ada", "Ada L."))  # a later change: it does not count
        b.enrol("Ada L.", looks(1, 0.2, 7))
        async with online(a):
            await asyncio.to_thread(forget, a.place, "Ada")
            await until(lambda: ada in a.sync.view.forgotten())
            await until(lambda: not a.sync.view.records(ada))  # no copy at the hub
            assert "b" in a.sync.view.held
            assert ada in a.sync.view.held["b"].people  # what it said last
        assert b.names() == ["Ada L.", "Bob"]
        async with online(b):
            await until(lambda: b.names() == ["Bob"])
            await until(lambda: ada in b.sync.state.forgotten and b.sync.state.forgotten[ada].complete)
            await until(lambda: ada in b.sync.view.held["b"].forgotten if "b" in b.sync.view.held else False)
        assert erased == [ada]
        for file in (tmp_path / "b").iterdir():
            assert looks(1).tobytes()[:32] not in file.read_bytes(), file
        # An old copy that is put back is erased again.
        enrol(b.place.gallery, b.model, b.place.dimensions, "Ada", [EnrolledView(looks(1))])
        b.change(lambda g: g.put(replace(g.drop(g.id_of("Ada")), id=ada, name="Ada again")))
        async with online(a, b):
            await until(lambda: b.names() == ["Bob"])
            assert ada not in a.gallery().names_by_id()

    asyncio.run(story())


def test_another_model_gets_people_by_their_pictures_or_says_whom_to_enrol_anew(
    tmp_path: Path, hub: Server, caplog: pytest.LogCaptureFixture
) -> None:
    described: list[tuple[int, ...]] = []

    def engine():  # type: ignore[no-untyped-def]
        def embed(picture: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            described.append(picture.shape)
            return np.array([looks(int(picture[0, 0, 0]) // 10) for _ in boxes])

        return embed

    other = "f" * 16
    a = SharingBox(tmp_path, "a", url_of(hub), pictures=True)
    b, c = (SharingBox(tmp_path, name, url_of(hub), model=other, engine=engine) for name in ("b", "c"))
    good, jpeg = cv2.imencode(".jpg", np.full((64, 32, 3), 50, np.uint8))
    assert good

    async def story() -> None:
        a.enrol("Ada", looks(1), crop=Crop(jpeg.tobytes(), (0.0, 0.0, 32.0, 64.0)))
        a.enrol("Bob", looks(2))
        async with online(a, b, c):
            await until(lambda: b.names() == c.names() == ["Ada"])
            await until(lambda: b.sync.anew == c.sync.anew == {a.gallery().id_of("Bob")})
            assert np.allclose(b.gallery().embeddings, looks(5))
            assert len(c.gallery().names) == 1  # of two boxes with that model, one was heard
            a.change(lambda g: g.put(replace(g.person("Ada"), name="Ada L.", details=Details(note="new"))))
            await until(lambda: b.names() == c.names() == ["Ada L."])
            assert len(a.gallery().names) == 2

    asyncio.run(story())
    assert described[0] == (64, 32, 3)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("enrol anew")]
    assert lines
    assert "Bob" not in caplog.text


def test_a_lost_or_damaged_state_and_a_wrong_key_change_nobody(
    tmp_path: Path, hub: Server, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = (SharingBox(tmp_path, name, url_of(hub)) for name in ("a", "b"))
    stranger = SharingBox(tmp_path, "stranger", url_of(hub), secret=b"x" * 32)

    async def story() -> None:
        a.enrol("Ada", looks(1), looks(2))
        async with online(a, b):
            await until(lambda: b.names() == ["Ada"])
        before = digest(b.gallery().person("Ada"))
        state_file(b.place.gallery).write_text("damaged")
        assert load_state(b.place.gallery, "site", b.model).people == {}
        async with online(a, b, stranger):
            await until(lambda: b.sync.state.people)
            await until(lambda: "stranger" not in a.sync.view.held and "compare the group's key" in caplog.text)
        assert digest(b.gallery().person("Ada")) == before
        assert stranger.names() == []

    asyncio.run(story())
    state = json.loads(state_file(a.place.gallery).read_text())
    assert "Ada" not in json.dumps(state)


KILLED = """
import asyncio, sys
from pathlib import Path
from shared_parts import SharingBox

async def run():
    async with SharingBox(Path(sys.argv[1]), "b", sys.argv[2]).online():
        print("online", flush=True)
        await asyncio.sleep(600)

asyncio.run(run())
"""


@pytest.mark.slow
def test_a_box_that_is_killed_at_any_moment_has_the_gallery_in_the_end(tmp_path: Path, hub: Server) -> None:
    a, b = (SharingBox(tmp_path, name, url_of(hub)) for name in ("a", "b"))
    tests = str(Path(__file__).resolve().parent.parent)
    random = np.random.default_rng(3)

    async def story() -> None:
        async with a.online():
            for turn in range(6):
                with subprocess.Popen(
                    [sys.executable, "-c", KILLED, str(tmp_path), url_of(hub)], stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": tests},
                ) as process:  # fmt: skip
                    assert process.stdout is not None
                    await asyncio.to_thread(process.stdout.readline)
                    for n in range(10):
                        a.enrol(f"person {turn}-{n}", looks(100 * turn + n))
                        if n == 5 and turn:
                            a.change(lambda g: g.remove(f"person {turn - 1}-0"))  # noqa: B023
                            await asyncio.to_thread(forget, a.place, f"person {turn - 1}-1")
                        await asyncio.sleep(float(random.uniform(0, 0.1)))
                    process.kill()
                assert b.gallery() is not None  # readable whenever it was killed
            async with b.online():
                await until(lambda: a.gallery().names_by_id() == b.gallery().names_by_id())
        assert len(b.names()) == 50

    asyncio.run(story())


@pytest.mark.slow  # with the whole process; the other tests do the same within theirs
def test_the_streams_forwarder_shares_the_gallery_beside_its_events(tmp_path: Path, hub: Server) -> None:
    manifest = read_manifest(REPOSITORY / "models" / "edge")
    files = (tmp_path / "people.gallery", manifest.model_hash, manifest.dimensions)
    box = Publisher(
        PublishSettings(endpoint="tcp://127.0.0.1:*"),
        JournalSettings(path=str(tmp_path / "events.journal")),
        "entrance",
    )
    (tmp_path / "group.key").write_bytes(SECRET)
    (tmp_path / "cams.yaml").write_text(
        yaml.safe_dump({
            "box": "entrance", "cameras": [{"name": "door", "url": "synthetic://street"}],
            "journal": {"path": str(tmp_path / "events.journal")},
            "fleet": {
                "nats": {"url": url_of(hub), "create_stream": True}, "group_key": f"file:{tmp_path / 'group.key'}",
                "gallery": {"group": "site"},
            },
        })
    )  # fmt: skip
    row = np.ones(manifest.dimensions, np.float32) / np.sqrt(np.float32(manifest.dimensions))
    enrol(*files, "Ada", [EnrolledView(row, "door")])
    forwarder = ForwarderProcess(tmp_path / "cams.yaml", box.endpoint, box.replay_endpoint, str(files[0]))
    forwarder.look(time.monotonic())

    async def story() -> None:
        bucket = Bucket(Hub(NatsSettings(url=url_of(hub)), "centre"), "site")
        await bucket.open(make=True)
        view = GroupView(KEY)

        def names() -> list[str]:
            view.take(dict(bucket.entries))
            return [person.name for person in view.people().values()]

        await until(lambda: names() == ["Ada"], 120)
        (ada,) = view.people()
        assert view.people()[ada].views[0].source == "entrance/door"
        record = gone_record(ada, "forgotten", Stamp(1, "centre"))
        await bucket.put(record.header.key, sealed(record, KEY))
        await until(lambda: names() == [] and "entrance" in view.held and ada in view.held["entrance"].forgotten)
        await bucket.close()

    try:
        asyncio.run(story())
    finally:
        forwarder.close()
        box.close()
    assert forwarder.restarts == 0
    assert load_or_begin(*files).people == []
