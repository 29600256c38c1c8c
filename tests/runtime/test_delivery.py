"""Journal, publisher, replay and the client library, with real files and sockets."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import zmq
from conftest import REPOSITORY, assert_user_error, call, run

from personsearch.core.errors import UserError
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.evidence import Decision
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.delivery.events import EventFactory, topic_of
from personsearch.runtime.delivery.journal import Journal, JournalReader
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.settings import JournalSettings, PublishSettings

LOCAL = PublishSettings(endpoint="tcp://127.0.0.1:*")
EVENTS = EventFactory("box", "0123456789abcdef")


def camera_event(number: int, camera: str = "door") -> dict:
    return EVENTS.camera_state(camera, "online", "", str(number), time.time())


def stored(path: Path) -> list[tuple[int, str, int]]:
    with sqlite3.connect(path) as database:
        return list(database.execute("select sequence, topic, topic_sequence from events order by sequence"))


def read_all(client: Client, timeout: float = 2.5) -> list[dict]:
    found = []
    while (event := client.receive(timeout)) is not None:
        found.append(event)
        timeout = 0.5
    return found


def test_every_kind_of_event_follows_the_schema(tmp_path: Path) -> None:
    schema = json.loads((REPOSITORY / "runtime" / "delivery" / "event.schema.json").read_text())
    frame = Frame("door", np.zeros((10, 20, 3), np.uint8), 3, time.time(), 1.0, None, (100, 50), 0.5, (400, 300))
    track = Track(1, np.array([1, 2, 5, 8.0]), 0.9, 1.0, 1.0, 0, np.zeros((5, 4)))
    sure = Decision("recognised", "Ada", 0.8, 12.5, "Bo", 0.4, 5, 0.7, 0.02, 0.5)
    alone = Decision("possible", "Ada", 0.3, -0.5, "", 2.0, 1, 0.7, 9000.0, 0.5)  # nobody else is enrolled
    journal = Journal(tmp_path / "j", JournalSettings())
    messages = journal.append([
        EVENTS.match(Match(track, "Ada", sure), frame, time.time()), camera_event(1),
        EVENTS.candidate(Match(track, "Ada", alone), frame, time.time()),
        EVENTS.engine_state("given_up", "it died", 5, time.time()),
        EVENTS.settings_state("rejected", "line 3", time.time()), EVENTS.storage_state("failing", "full", time.time()),
        EVENTS.gallery_state("grown", "p-0123456789ab", "door", "a view of s-1", time.time()),
    ])  # fmt: skip
    journal.close()
    events = [json.loads(body) for _, body in messages]
    for event in events:
        jsonschema.validate(event, schema)
    # The box is in pixels of the upright picture: back through scale 0.5 and the region's corner.
    assert events[0]["bounding_box"] == {"x": 102.0, "y": 54.0, "w": 8.0, "h": 12.0}
    assert [t.decode() for t, _ in messages] == [
        "match.door", "camera.door", "candidate.door", "engine", "settings", "storage", "gallery",
    ]  # fmt: skip
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**events[1], "password": "x"}, schema)


def test_numbers_go_on_over_restarts_and_boots_differ(tmp_path: Path) -> None:
    boots, path = set(), tmp_path / "events.journal"
    for start in range(3):
        journal = Journal(path, JournalSettings())
        boots.add(journal.boot)
        journal.append([camera_event(start), camera_event(start, "yard"), camera_event(start)])
        journal.close()
    assert len(boots) == 3
    rows = stored(path)
    assert [r[0] for r in rows] == list(range(1, 10))
    assert [r[2] for r in rows if r[1] == "camera.door"] == list(range(1, 7))
    assert [r[2] for r in rows if r[1] == "camera.yard"] == list(range(1, 4))
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_to_append_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", JournalSettings())
    assert journal.append([]) == []
    assert journal.sequence == 0
    reader = JournalReader(tmp_path / "j")
    assert reader.bounds() == (0, 0)
    assert reader.read(0, 10, [""], 10, 10, 10) == ([], 11)
    reader.close()
    journal.close()


def test_old_events_are_forgotten_by_size_and_by_age(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "size", JournalSettings(max_mb=0.5))
    for number in range(20):
        journal.append([camera_event(number * 1000 + i) for i in range(1000)])
    time.sleep(0.6)  # it looks twice a second, and forgets some at a time
    for number in range(12):
        journal.append([camera_event(number)])
    rows = stored(tmp_path / "size")
    assert journal.used_bytes() < 1.2e6
    assert 0 < len(rows) < 3000
    assert rows[-1][0] == 20_012
    journal.close()
    journal = Journal(tmp_path / "age", JournalSettings(keep_hours=1e-4))
    journal.append([camera_event(1)])
    time.sleep(0.6)
    journal.append([camera_event(2)])
    assert [r[0] for r in stored(tmp_path / "age")] == [2]
    journal.close()


def test_a_journal_has_one_writer_and_a_damaged_one_is_set_aside(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", JournalSettings())
    with pytest.raises(UserError, match="another stream"):
        Journal(tmp_path / "j", JournalSettings())
    journal.close()
    (tmp_path / "j").write_bytes(b"this is no database" * 1000)
    journal = Journal(tmp_path / "j", JournalSettings())
    journal.append([camera_event(1)])
    journal.close()
    assert list(tmp_path.glob("j.damaged-*"))
    assert len(stored(tmp_path / "j")) == 1


def test_a_client_resumes_where_it_was(tmp_path: Path) -> None:
    settings = JournalSettings(path=str(tmp_path / "events.journal"))
    publisher = Publisher(LOCAL, settings, "box")
    for number in range(10):
        publisher.publish(camera_event(number, "a" if number % 2 else "b"))
    with Client(publisher.endpoint, since="kept") as client:
        assert [client.receive(3)["reason"] for _ in range(4)] == ["0", "1", "2", "3"]  # type: ignore[index]
        position = json.loads(json.dumps(client.position()))
    for number in range(10, 15):
        publisher.publish(camera_event(number, "c"))
    with Client(publisher.endpoint, since=position) as client:
        rest = read_all(client)
        assert sorted(int(e["reason"]) for e in rest) == list(range(4, 15))
        assert client.status().lost == 0
    publisher.close()


def test_a_client_hears_its_topics_only_and_finds_their_gaps(tmp_path: Path) -> None:
    publisher = Publisher(LOCAL, JournalSettings(), "box")
    with Client(publisher.endpoint, topics=["camera.a"], inbox=5) as client:
        assert client.receive(1.5) is None  # joins
        for number in range(300):
            publisher.publish(camera_event(number, "ab"[number % 2]))
        found = read_all(client)
        status = client.status()
    publisher.close()
    assert [int(e["reason"]) for e in found] == list(range(0, 300, 2))
    assert status.gaps
    assert status.replayed
    assert (status.lost, status.behind) == (0, 0)
    assert status.age_s < 10
    assert status.silent_s < 2


def test_what_the_box_keeps_no_longer_is_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "events.journal"
    publisher = Publisher(LOCAL, JournalSettings(path=str(path)), "box")
    for number in range(100):
        publisher.publish(camera_event(number))
    while publisher.sent < 100:
        time.sleep(0.01)
    with sqlite3.connect(path, timeout=5) as database:
        database.execute("delete from events where sequence between 11 and 40")
    with Client(publisher.endpoint, since={"camera.door": [10, 10]}) as client:
        found = read_all(client)
        assert len(found) == 60
        assert client.status().lost == 30
    publisher.close()


def test_plain_sockets_suffice_as_documented(tmp_path: Path) -> None:
    """Runs the example of docs/events.md and makes it miss events by publishing before the PUB connection is up."""
    text = (REPOSITORY / "docs" / "events.md").read_text()
    example = re.search(r"<!-- example -->\n```python\n(.*?)```", text, re.S)
    assert example
    publisher = Publisher(LOCAL, JournalSettings(path=str(tmp_path / "j")), "box")
    for number in range(5):
        publisher.publish(camera_event(number))
    reader = subprocess.Popen(
        [sys.executable, "-c", example[1], publisher.endpoint, publisher.replay_endpoint, "8"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout is not None
    lines: list[str] = []
    number = 5
    os.set_blocking(reader.stdout.fileno(), False)
    end = time.monotonic() + 20
    while reader.poll() is None and time.monotonic() < end:
        publisher.publish(camera_event(number))
        number += 1
        time.sleep(0.1)
    lines = reader.stdout.read().splitlines()
    reader.kill()
    publisher.close()
    heard = [int(line.split()[1]) for line in lines]
    assert heard == list(range(len(heard)))
    assert len(heard) >= 8
    assert "replayed 0" in lines


def test_replay_is_rate_limited_and_explains_wrong_questions() -> None:
    publisher = Publisher(LOCAL, JournalSettings(), "box")
    context = zmq.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.connect(publisher.replay_endpoint)
        for body in (b"[]", b'{"request": "range"}', b'{"request": "all"}', b"\xff"):
            socket.send(body)
            assert socket.poll(15_000)
            assert json.loads(socket.recv())["reply"] == "error"
        began, replies = time.monotonic(), []
        for _ in range(300):
            socket.send(b'{"request": "snapshot"}')
        for _ in range(300):
            assert socket.poll(15_000)
            replies.append(json.loads(socket.recv()))
        answered = sum(r["reply"] == "snapshot" for r in replies)
        assert 40 <= answered <= 50 + 100 * (time.monotonic() - began) + 1
        assert all(0 < r["retry_after_s"] < 1 for r in replies if r["reply"] == "busy")
        other = context.socket(zmq.DEALER)  # somebody else is not held up
        other.connect(publisher.replay_endpoint)
        other.send(b'{"request": "snapshot"}')
        assert other.poll(15_000)
        assert json.loads(other.recv())["reply"] == "snapshot"
        assert publisher.replay.malformed == 4
    finally:
        context.destroy(linger=0)
        publisher.close()


def test_keys_are_made_listed_and_removed(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    script = "runtime/keys.py"
    assert_user_error(call(script, "list", "--keys", keys), "no key there")
    assert_user_error(call(script, "client", "--keys", keys), "name")
    assert run(script, "server", "--keys", keys).returncode == 0
    assert_user_error(call(script, "server", "--keys", keys), "exists already")
    assert_user_error(call(script, "client", "../x", "--keys", keys), "letters")
    assert call(script, "client", "monitor", "--keys", keys).returncode == 0
    assert call(script, "list", "--keys", keys).stdout.startswith("monitor\t")
    for secret in keys.glob("*.key_secret"):
        assert secret.stat().st_mode & 0o077 == 0
    publisher = Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*", keys=str(keys)), JournalSettings(), "box")
    try:
        known = {"key": keys / "monitor.key_secret", "server_key": keys / "server.key"}
        publisher.publish(camera_event(1))
        with Client(publisher.endpoint, since="kept", **known) as client:
            assert client.receive(4)
        secret = (keys / "monitor.key_secret").read_text()
        assert call(script, "remove", "monitor", "--keys", keys).returncode == 0
        (keys / "monitor.key_secret").write_text(secret)  # it kept a copy
        with Client(publisher.endpoint, since="kept", **known) as client:
            assert client.receive(2) is None
        assert publisher.guard
        assert publisher.guard.refused
    finally:
        publisher.close()


def test_wrong_endpoints_and_keys_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected tcp"):
        Client("nonsense")
    with pytest.raises(UserError, match="no key there"):
        Client("tcp://127.0.0.1:9", key=tmp_path / "none", server_key=tmp_path / "none")
    assert_user_error(call("runtime/subscribe.py", "--key", "x"), "--server-key")
    with pytest.raises(UserError, match="no key there"):
        Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*", keys=str(tmp_path)), JournalSettings(), "box")


def test_the_client_needs_neither_opencv_nor_an_engine() -> None:
    code = (
        "import sys, personsearch.runtime.client\n"
        "bad = {'cv2', 'openvino', 'onnxruntime', 'torch'} & set(sys.modules)\nassert not bad, bad"
    )
    assert run("-c", code).returncode == 0


def test_topics_are_prefix_free_per_camera() -> None:
    assert topic_of(camera_event(1, "door")) == "camera.door"
    assert topic_of(EVENTS.engine_state("ready", "", 0, 0.0)) == "engine"
