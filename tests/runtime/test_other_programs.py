"""Whatever speaks at the other end of a socket, or lies under a file's name: a clear line, and nobody is deaf."""

from __future__ import annotations

import json
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from personsearch.core.errors import GalleryError, UserError
from personsearch.core.locks import one_writer
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_record import packed
from personsearch.runtime.decisions.person import Details, Person
from personsearch.runtime.delivery.endpoints import connect
from personsearch.runtime.delivery.events import EventFactory, read_event
from personsearch.runtime.delivery.journal import Journal
from personsearch.runtime.delivery.views import ask_views
from personsearch.runtime.keys import load_key
from personsearch.runtime.operations.audit import AuditLog, entries, verify
from personsearch.runtime.operations.gallery_commands import _list
from personsearch.runtime.settings import JournalSettings

TIME = "2026-11-30T12:00:00.000Z"
BEAT = {"type": "heartbeat", "sequence": 1, "boot": "b", "time": TIME, "topics": {}, "replay": "5557", "box": "x"}
VISIT = {
    "type": "sighting", "sequence": 1, "topic_sequence": 1, "boot": "b", "box": "x", "time": TIME, "camera": "door",
    "sighting": "s-0", "change": "started", "reason": "named", "person": None, "stranger": None, "started": TIME,
    "last_seen": TIME, "duration_s": 1.0, "cameras": [{"camera": "door"}], "zones": [], "evidence": None,
}  # fmt: skip


def test_good_events_are_read() -> None:
    assert read_event(json.dumps(BEAT)) == BEAT
    assert read_event(json.dumps(VISIT)) == VISIT


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "[]", "null", "\x00", json.dumps(BEAT).replace("12:00", "25:00"),
        *(json.dumps(BEAT | change) for change in (
            {"replay": 5557}, {"topics": []}, {"sequence": -1}, {"time": "0001-01-01"},
        )),
        *(json.dumps(VISIT | change) for change in (
            {"started": "yesterday"}, {"last_seen": "9999-99-99"}, {"zones": None}, {"zones": [1]}, {"cameras": [None]},
            {"duration_s": 10**400}, {"evidence": "none"}, {"previous": 7}, {"box": None}, {"sequence": True},
        )),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an event"):
        read_event(text)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:70000", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://:5556", "tcp://h", "h:1", "",
                 "tcp://u:hunter22@127.0.0.1:5556", "ipc://" + "a" * 200, "tcp://127.0.0.1:٣", "ipc://\udcff"],
)  # fmt: skip
def test_an_endpoint_that_nobody_can_have_is_refused(endpoint: str) -> None:
    context = zmq.Context()
    try:
        with pytest.raises(UserError, match="not an endpoint to connect to") as caught:
            connect(context.socket(zmq.SUB), endpoint)
        assert "hunter22" not in str(caught.value)
    finally:
        context.destroy(linger=0)


@pytest.fixture
def answering() -> Iterator[Callable[[list[bytes]], str]]:
    """A program that answers every question with the same parts; gives its endpoint."""
    context, ends = zmq.Context(), threading.Event()
    threads = []

    def start(parts: list[bytes]) -> str:
        socket = context.socket(zmq.ROUTER)
        port = socket.bind_to_random_port("tcp://127.0.0.1")

        def serve() -> None:
            while not ends.is_set():
                if socket.poll(50):
                    *envelope, _ = socket.recv_multipart()
                    socket.send_multipart([*envelope, *parts])
            socket.close(linger=0)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"tcp://127.0.0.1:{port}"

    yield start
    ends.set()
    for thread in threads:
        thread.join()
    context.destroy(linger=0)


ANSWERS: list[list[bytes]] = [
    [b"["], [b"[]"], [b"[" * 100_000], [b"{}"], [b'{"reply": "range", "next": "x"}'], [b'{"reply": 7}'],
    [b'{"reply": "views", "count": 3, "model": "m", "qualities": [1]}', b"12345"],
    [b'{"reply": "views", "count": 1, "model": "m", "qualities": [NaN]}', b"1234"],
]  # fmt: skip


@pytest.mark.parametrize("parts", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_of_another_program(answering: Callable[[list[bytes]], str], parts: list[bytes]) -> None:
    with pytest.raises(UserError):
        ask_views(answering(parts), "door", 1)


@pytest.mark.parametrize(
    "answer", [b'{"reply": []}', b'{"reply": "range", "next": 1}'], ids=["nonsense", "lost its end"]
)
def test_a_subscriber_hears_on_after_nonsense(
    answer: bytes, answering: Callable[[list[bytes]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("personsearch.runtime.client.EMPTY_ANSWERS", 2)
    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    event: dict[str, Any] = {**VISIT, "type": "engine", "state": "ready", "topic_sequence": 4, "sequence": 4}
    try:
        with Client(f"tcp://127.0.0.1:{port}", replay=answering([answer])) as client:
            end = time.monotonic() + 10
            got = None
            while got is None and time.monotonic() < end:
                publisher.send_multipart([b"heartbeat", json.dumps(BEAT).encode()])
                publisher.send_multipart([b"heartbeat", b"[" * 100_000])
                publisher.send_multipart([b"engine", json.dumps({"type": "engine"}).encode()])
                publisher.send_multipart([b"\xff", b"\xff"])
                publisher.send_multipart([b"engine", json.dumps(event).encode()])
                got = client.receive(0.3)
            assert got is not None
            assert got["sequence"] == 4
            assert client.status().malformed >= 3
            assert client.status().lost == 3
    finally:
        context.destroy(linger=0)


def test_files_without_an_end_are_refused() -> None:
    for read in (lambda: load_key("/dev/zero"), lambda: list(entries("/dev/zero")), lambda: verify("/dev/zero")):
        with pytest.raises(UserError, match="/dev/zero"):
            read()


def test_a_name_that_is_no_utf8_goes_on_record(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit")
    log.add("exported", file="b\udcffackup")
    log.add("begun")
    assert verify(tmp_path / "audit").entries == 2
    assert next(entries(tmp_path / "audit"))["file"] == "b\udcffackup"


def test_two_that_change_a_file_at_once_lose_nothing(tmp_path: Path) -> None:
    from personsearch.runtime.page import access

    users = tmp_path / "page.users"
    names = [f"user-{i}" for i in range(8)]
    threads = [
        threading.Thread(target=access.set_password, args=(users, n, "a long password", "viewer")) for n in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(access.load_users(users)) == names
    for bad in ("op\n", "", "a/b", "x" * 65):
        with pytest.raises(UserError, match="name"):
            access.set_password(users, bad, "a long password", "viewer")


def test_a_lock_that_cannot_be_made_is_an_error_of_the_file(tmp_path: Path) -> None:
    from personsearch.runtime.decisions.gallery_file import locked

    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), one_writer(tmp_path / "file" / "x"):
        pass
    with pytest.raises(GalleryError, match="cannot be written"), locked(tmp_path / "file" / "x"):
        pass


def test_an_event_that_is_no_json_takes_no_other_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path / "j", JournalSettings())
    good: dict[str, Any] = {"type": "engine", "state": "ready"}
    try:
        sent = journal.append([good, good | {"reason": "\udcff"}, good | {"age": float("nan")}, good])
    finally:
        journal.close()
    assert [json.loads(body)["sequence"] for _, body in sent] == [1, 2]
    assert [json.loads(body)["topic_sequence"] for _, body in sent] == [1, 2]
    assert caplog.text.count("is left out") == 2


def test_a_reason_is_text_that_acts_on_nothing() -> None:
    event = EventFactory("box").settings_state("rejected", "\udcff.yaml: \x1b[31m rtsp://u:pw@h", 0.0)
    assert event["reason"] == "\\udcff.yaml: \\x1b[31m rtsp://***@h"


def test_a_time_that_no_calendar_has_is_refused_with_the_record() -> None:
    view = EnrolledView(np.eye(4, dtype=np.float32)[0], "door", 0.5, time=1e300)
    with pytest.raises(GalleryError, match="time"):
        packed(Person("p-000000000000", "Ada", Details(), 0.0, (view,), (), ()))


def test_what_a_gallery_brings_along_acts_on_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    gallery = Gallery("0" * 16, 4)
    gallery.add("Ada", EnrolledView(np.eye(4, dtype=np.float32)[0], "door\x1b[31m", 0.5))
    _list(gallery, Namespace(show="Ada", json=False))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("door\\x1b[31m") == 2
