"""The operator's page on a running box: real cameras and engine, a real page process, real sockets."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs personsearch[page]")

import httpx2 as httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from page_box import Box, answers, candidate, unpacked, within

from personsearch.core.errors import UserError
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.page.feeds import UNANSWERED
from personsearch.runtime.page.supervisor import PageProcess


@pytest.fixture(scope="module")
def client(box: Box) -> Iterator[httpx.Client]:
    with box.client() as client:
        yield client


def test_the_state_is_what_the_stream_knows(box: Box, client: httpx.Client) -> None:
    state = client.get("/api/state").json()
    assert [camera["name"] for camera in state["cameras"]] == ["street-1", "street-2"]
    assert state["engine"]["state"] == "ready"
    assert state["people"] == 3
    assert within(120, lambda: client.get("/api/history").json()["samples"])[0]["memory_mb"] > 10


def test_live_pictures_come_with_their_boxes_and_only_while_somebody_looks(box: Box, client: httpx.Client) -> None:
    with box.look(client, "street-1") as socket:
        seen = set()
        for _ in range(4):
            head, jpeg = unpacked(socket.recv(90))
            image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert image.shape[1] <= 640
            assert head["camera"] == "street-1"
            assert all(0 <= share <= 1.01 for person in head["people"] for share in person["box"])
            seen.add(head["frame"])
            socket.send("ok")
        assert len(seen) == 4  # it moves
    counters = box.pipeline.camera("street-1").counters

    def analysed(more: int) -> None:
        target = counters.analysed + more
        within(120, lambda: counters.analysed >= target)

    analysed(3)  # the question that was under way is answered by the next frame
    before = box.control.encoded
    analysed(3)
    assert box.control.encoded == before


def test_a_viewer_who_does_not_answer_is_not_flooded(box: Box, client: httpx.Client) -> None:
    with box.look(client, "street-1", "street-2", "nowhere") as socket:
        for _ in range(UNANSWERED):
            socket.recv(90)
        with pytest.raises(TimeoutError):
            socket.recv(1.5)
        socket.send("ok")
        head, _ = unpacked(socket.recv(90))
        assert time.time() - _unix(head["time"]) < 5  # the newest, not the oldest that waited


def test_nonsense_on_the_live_socket_ends_it_and_nothing_else(box: Box, client: httpx.Client) -> None:
    for text in ("{", "[]", '{"cameras": 3}', '{"cameras": [3]}', '{"cameras": [], "width": -1}'):
        with box.look(client) as socket:
            socket.send(text)
            with pytest.raises(Exception, match=r"close|1000|1006|1005|timed"):
                socket.recv(5)
    assert client.get("/api/me").status_code == 200


def test_events_go_on_after_the_last_one_that_was_seen(box: Box, client: httpx.Client) -> None:
    box.running.pipeline.publish(box.pipeline.events.storage_state("ok", "one", time.time()))
    within(60, lambda: box.publisher.journal.sequence >= 2)
    first = _events(client, 2, after="0")
    assert [event["id"] for event in first] == [1, 2]
    again = _events(client, 1, last="1")
    assert [event["id"] for event in again] == [2]


def test_somebody_is_enrolled_from_a_live_frame_and_then_seen(box: Box, client: httpx.Client) -> None:
    def still() -> Any:
        found = client.post("/api/stills", json={"camera": "street-1"}).json()
        tracked = [(p["quality"], i) for i, p in enumerate(found.get("people", ())) if p["track"] is not None]
        return tracked and max(tracked)[0] > 0.15 and (found, max(tracked)[1])

    found, number = within(180, still)
    assert client.get(f"/api/pictures/{found['picture']}").headers["content-type"] == "image/jpeg"
    views = [{"picture": found["picture"], "person": number}]
    answer = client.post("/api/people", json={"name": "Bo", "views": views, "confirm": True})
    assert answer.status_code == 200, answer.text
    assert "Bo" in [person["name"] for person in client.get("/api/people").json()["people"]]
    within(120, lambda: "Bo" in box.pipeline.gallery.people)  # the stream's own reload took it over
    row = within(180, lambda: client.get("/api/sightings?person=Bo").json()["rows"])[0]
    assert "Bo" in row["words"]
    assert row["cameras"]
    assert client.get(f"/api/sightings/{row['id']}").json()["id"] == row["id"]
    assert "Bo" in client.get("/api/export/sightings.csv?person=Bo").text
    doubts = client.post("/api/people", json={"name": "Bo again", "views": views})
    assert doubts.status_code == 409
    assert any("looks like Bo" in doubt for doubt in doubts.json()["warnings"])
    assert client.patch("/api/people/Bo", json={"name": "Bo Ek"}).json() == {"name": "Bo Ek"}
    assert client.delete("/api/people/Bo Ek").status_code == 200
    assert client.delete("/api/people/Bo Ek").status_code == 400
    within(120, lambda: "Bo Ek" not in box.pipeline.gallery.people)


def test_pictures_are_described_and_what_is_none_is_refused(client: httpx.Client) -> None:
    street = Street(StreetSettings(seed=7, people=5, cameras=1, identities=10))
    jpeg = cv2.imencode(".jpg", street.frame(0, 40).image)[1].tobytes()
    found = client.post("/api/pictures", content=jpeg).json()
    assert found["people"]
    assert all(0 <= person["quality"] <= 1 for person in found["people"])
    for content, words in ((b"no picture", "cannot be read"), (b"%PDF-1.7", "PDF"), (b"<svg>", "SVG")):
        answer = client.post("/api/pictures", content=content)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    missing = client.post("/api/people", json={"name": "X", "views": [{"picture": "gone", "person": 0}]})
    assert "give it again" in missing.json()["error"]
    beyond = client.post("/api/people", json={"name": "X", "views": [{"picture": found["picture"], "person": 99}]})
    assert beyond.status_code == 400


def test_a_guess_is_reviewed_with_one_answer_and_taken_back(box: Box, client: httpx.Client) -> None:
    def guess() -> Any:
        """Say that somebody in sight may be Person 1, until views of him could be had."""
        with box.look(client, "street-2") as socket:
            head, _ = unpacked(socket.recv(90))
        for person in head["people"]:
            box.publisher.publish(candidate(box, person["track"]))
        time.sleep(1.0)
        rows = client.get("/api/review").json()["rows"]  # the box may have guesses of its own
        return [row for row in rows if row["picture"] and "possibly Person 1" in row["words"]]

    row = within(180, guess)[0]
    assert client.get(f"/api/sightings/{row['id']}/picture.jpg").status_code == 200
    done = client.post(f"/api/review/{row['id']}", json={"answer": "yes"}).json()
    assert done["views"] >= 1
    assert _views(client, "Person 1") == 1 + done["views"]
    assert client.post(f"/api/review/{row['id']}", json={"answer": "no"}).status_code == 400  # answered
    assert client.get("/api/review").json()["answered"]["yes"] == 1
    assert client.post(f"/api/review/{row['id']}/undo").status_code == 200
    assert _views(client, "Person 1") == 1
    assert client.post(f"/api/review/{row['id']}", json={"answer": "no"}).json()["views"] >= 1
    assert client.post("/api/review/c-nowhere", json={"answer": "yes"}).status_code == 400


def test_a_zone_is_drawn_taken_over_and_taken_back(box: Box, client: httpx.Client) -> None:
    picture = client.get("/api/cameras/street-1/still.jpg")
    assert picture.headers["x-shows"].startswith("0.0,0.0,1.0")
    before = box.cams.read_text()
    version = client.get("/api/settings").json()["version"]
    zone = [0.1, 0.1, 0.4, 0.4]
    done = client.patch("/api/settings", json={"version": version, "cameras": {"street-1": {"ignore": [zone]}}})
    assert "street-1: ignore (1)" in done.json()["changed"]
    within(120, lambda: box.pipeline.camera("street-1").settings.ignore == (tuple(zone),))
    with box.look(client, "street-1") as socket:
        head, _ = unpacked(socket.recv(90))
    assert head["zones"]["ignore"] == [zone]
    stale = client.patch("/api/settings", json={"version": version, "match": {"repeat_s": 9}})
    assert "meanwhile" in stale.json()["error"]
    assert client.post("/api/settings/undo").status_code == 200
    assert box.cams.read_text() == before
    within(120, lambda: not box.pipeline.camera("street-1").settings.ignore)
    targets = client.get("/api/curves").json()["curves"][0]["targets"]
    assert targets[0][1] > targets[-1][1]  # fewer false names ask for more likeness


def test_a_killed_page_comes_back_with_its_sessions_and_the_stream_never_notices(
    box: Box, client: httpx.Client
) -> None:
    with httpx.Client(base_url=box.url, headers={"origin": box.url}, timeout=180) as other:
        other.post("/api/login", json={"key": box.page.link.partition("#key=")[2]})
        ended = dict(other.cookies)
        other.post("/api/logout")
    within(60, lambda: box.page._revoked)
    captured = box.pipeline.camera("street-1").counters.captured
    began = time.monotonic()
    os.kill(box.page.process.pid, signal.SIGKILL)
    within(60, lambda: answers(client))  # (a connection that was open may be reset)
    assert client.get("/api/me").json()["role"] == "operator"  # who was logged in still is
    assert time.monotonic() - began < 60  # the promise of 5 s is measured by the fault suite
    assert box.page.restarts == 1
    assert client.get("/api/settings", cookies=ended).status_code == 200  # our own session, beside
    with httpx.Client(base_url=box.url, cookies=ended, timeout=180) as other:
        assert other.get("/api/me").json()["name"] is None
    within(120, lambda: box.pipeline.camera("street-1").counters.captured > captured)
    assert within(120, lambda: client.get("/api/sightings").json()["rows"])  # from the journal


def test_a_page_that_may_not_be_reached_so_is_refused_at_the_start(box: Box) -> None:
    def start(**page: Any) -> None:
        settings = box.pipeline.settings
        changed = settings.model_copy(update={"page": settings.page.model_copy(update=page)})
        PageProcess(changed, box.cams, box.gallery, "", box.control, box.publisher)

    port = int(box.url.rpartition(":")[2])
    with pytest.raises(UserError, match="cannot listen"):
        start(port=port)
    with pytest.raises(UserError, match="nobody has a password"):
        start(address="0.0.0.0", hosts=("box.lan",), insecure=True)
    with pytest.raises(UserError, match="no such file"):
        start(certificate="/nowhere/page.crt", key="/nowhere/page.key")


def _views(client: httpx.Client, name: str) -> int:
    return next(len(p["views"]) for p in client.get("/api/people").json()["people"] if p["name"] == name)


def _events(client: httpx.Client, count: int, after: str = "", last: str = "") -> list[dict[str, Any]]:
    import json

    found: list[dict[str, Any]] = []
    headers = {"last-event-id": last} if last else {}
    with client.stream("GET", "/api/events", params={"after": after}, headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                found.append({"id": int(line[4:])})
            elif line.startswith("data: "):
                found[-1]["told"] = json.loads(line[6:])
                if len(found) == count:
                    return found
    raise AssertionError("the stream of events ended")


def _unix(iso: str) -> float:
    from personsearch.runtime.delivery.events import from_iso

    return from_iso(iso)
