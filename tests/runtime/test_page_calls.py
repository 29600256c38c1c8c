"""The page's calls about people and sightings: the real application at real sockets and files, without cameras."""

import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs personsearch[page]")

from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import wait_for
from stays import IMAGE, MANIFEST, MODEL, open_history, rows, visit

from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import load_gallery, save_gallery
from personsearch.runtime.decisions.person import Crop
from personsearch.runtime.delivery.events import EventFactory, iso_time
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.operations.audit import entries
from personsearch.runtime.operations.control import Control
from personsearch.runtime.operations.reviews import load_reviews, reviews_file
from personsearch.runtime.page.access import set_password
from personsearch.runtime.page.parts import Options
from personsearch.runtime.page.server import application
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import JournalSettings, StreamSettings, default_bundle

HOME = "http://127.0.0.1:8480"
LOOKS = rows(12, seed=3)  # of people: 0 Ada, 1 Bo, the others strangers
PASSWORD = "long enough for anybody"


def near(row: np.ndarray, seed: int, share: float = 0.7) -> np.ndarray:
    """Another view of the same person."""
    other = rows(1, seed=seed)[0]
    mixed = share * row + (1 - share) * other
    return mixed / np.linalg.norm(mixed)


@dataclass
class House:
    """A box whose cameras see nobody: events and views come from the test."""

    place: Path
    publisher: Publisher = field(init=False)
    reloads: int = 0
    views: dict[tuple[str, int], list[np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        place = self.place
        gallery = Gallery(*MODEL)
        for number, name in enumerate(("Ada", "Bo")):
            crop = Crop(cv2.imencode(".jpg", IMAGE)[1].tobytes(), (10.0, 20.0, 50.0, 120.0)) if name == "Ada" else None
            gallery.add(name, EnrolledView(LOOKS[number], "door", 0.6, crop=crop))
        save_gallery(gallery, place / "people.gallery")
        (place / "cams.yaml").write_text(
            "# cameras\ncameras: [{name: door, url: 'synthetic://street'}, {name: yard, url: 'synthetic://street'}]\n"
            f"gallery: {place / 'people.gallery'}\njournal: {{path: {place / 'events.db'}, keep_hours: 12}}\n"
        )
        settings = StreamSettings.model_validate({
            "cameras": [{"name": name, "url": "synthetic://street"} for name in ("door", "yard")],
            "publish": {"endpoint": "tcp://127.0.0.1:*"},
        })  # fmt: skip
        self.publisher = Publisher(settings.publish, JournalSettings(path=str(place / "events.db")))
        self.publisher.serve_views(self._views_of)
        pipeline = Pipeline(settings, default_bundle(), MANIFEST, gallery, self.publisher.publish)
        self.control = Control(pipeline, self.publisher, self._reload)
        self.events = EventFactory("box", MANIFEST.model_hash)

    def _reload(self) -> None:
        self.reloads += 1
        self.publisher.publish(self.events.settings_state("applied", "", time.time()))

    def _views_of(self, camera: str, track: int) -> list[tuple[np.ndarray, float, str]]:
        return [(row, 0.5, MANIFEST.model_hash) for row in self.views.get((camera, track), [])]

    @property
    def gallery(self) -> Gallery:
        return load_gallery(self.place / "people.gallery", *MODEL)

    def options(self, **changes: Any) -> Options:
        from personsearch.runtime.page_settings import PageSettings

        place = self.place
        given: dict[str, Any] = {
            "control": self.control.endpoint, "events": self.publisher.endpoint,
            "replay": self.publisher.replay_endpoint, "cams": str(place / "cams.yaml"),
            "gallery": str(place / "people.gallery"), "bundle": str(default_bundle()), "engine": "auto",
            "gallery_key": "", "audit": str(place / "audit"), "journal": str(place / "events.db"),
            "history": str(place / "history"), "recordings": "",
            "settings": PageSettings(users=str(place / "page.users")), "secret": b"s" * 32, "console_key": "the key",
        }  # fmt: skip
        return Options(**(given | changes))

    def audit(self, kind: str) -> list[dict[str, Any]]:
        path = self.place / "audit"
        return [entry for entry in entries(path) if entry["kind"] == kind] if path.exists() else []

    def say(self, sighting: str, person: str | None, track: int, change: str = "started", **more: Any) -> None:
        """An event about a sighting at the door, with views of whoever the track is."""
        now = time.time()
        evidence = {
            "similarity": 0.6, "threshold": 0.4, "log_likelihood_ratio": 7.0, "runner_up": self.gallery.id_of("Bo"),
            "margin": 0.3, "views": 3, "quality": 0.5, "false_names_per_day": 0.01, "camera": "door", "track": track,
        }  # fmt: skip
        self.publisher.publish({
            "schema_version": 3, "type": "sighting", "box": "box", "time": iso_time(now), "camera": "door",
            "sighting": sighting, "change": change, "reason": "named", "person": person and self.gallery.id_of(person),
            "stranger": None, "started": iso_time(now - 9), "last_seen": iso_time(now), "duration_s": 9.0,
            "cameras": [{"camera": "door", "from": iso_time(now - 9), "to": iso_time(now)}], "zones": [],
            "evidence": evidence if person else None, "track": track, "bounding_box": None, "frame": None,
            "model": MANIFEST.model_hash, **more,
        })  # fmt: skip

    def close(self) -> None:
        self.control.close()
        self.publisher.close()


class Web(TestClient):
    """Logged in, with the page's own origin."""

    def enter(self, name: str = "") -> "Web":
        self.headers["origin"] = HOME
        body = {"name": name, "password": PASSWORD} if name else {"key": "the key"}
        assert self.post("/api/login", json=body).status_code == 200
        return self


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))  # journals of other programs are not ours
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def web(house: House) -> Iterator[Web]:
    with Web(application(house.options()), base_url=HOME) as client:
        yield client.enter()


def soon(look: Callable[[], Any]) -> Any:
    found: list[Any] = []
    wait_for(lambda: found.append(look()) or found[-1], 30, 0.05)
    return found[-1]


def row_of(web: Web, number: str, views: bool = True) -> Any:
    def look() -> Any:
        answer = web.get(f"/api/sightings/{number}")
        return answer.status_code == 200 and (not views or answer.json()["views"]) and answer.json()

    return soon(look)


# --- searching back ---------------------------------------------------------------------------------------------------


def history_of(house: House) -> list[str]:
    """Six visits: two of Ada, one of them without her name, and strangers'; gives Ada's ids."""
    history = open_history(house.place / "history", crops=True)
    now, ids = time.time() - 600, []
    for number, (look, person) in enumerate(
        [(near(LOOKS[0], 40), house.gallery.id_of("Ada")), (near(LOOKS[0], 41), None)]
        + [(row, None) for row in LOOKS[4:8]]
    ):
        box = np.array([10, 20, 60, 160], np.float32)
        track = Track(7, box, 0.9, now, now, 1, np.zeros((5, 4)), confirmed=True)
        camera = "door" if number % 2 else "yard"
        history.look(Frame(camera, IMAGE, number, now, 0.0, picture_size=(480, 270)), [track], [])
        ids.append(visit(history, look, camera, now + 20 * number, person).id)
    history.close()
    return ids[:2]


def test_somebody_enrolled_is_searched_for_and_it_is_on_record_without_the_name(house: House, web: Web) -> None:
    ids = history_of(house)
    found = web.post("/api/search", json={"name": "Ada"}).json()
    assert [hit["sighting"] for hit in found["hits"]][:2] in (ids, ids[::-1])
    best = next(hit for hit in found["hits"] if hit["sighting"] == ids[0])
    assert (best["name"], best["camera"]) == ("Ada", "yard")
    assert "1 in " in best["somebody_else"]
    assert found["visits"] == 6
    sheet = web.get(f"/api/searches/{found['search']}/sheet.png").content
    assert cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR).shape[1] > 400
    number = next((i for i, hit in enumerate(found["hits"]) if hit["picture"]), None)
    assert number is not None
    picture = web.get(f"/api/searches/{found['search']}/{number}.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    (entry,) = house.audit("searched")
    assert (entry["by"], entry["person"]) == ("person", house.gallery.id_of("Ada"))
    assert "Ada" not in (house.place / "audit").read_text()


def test_a_sighting_is_searched_for_while_its_views_are_kept_and_from_the_history_afterwards(
    house: House, web: Web
) -> None:
    ids = history_of(house)
    number = "s-" + "a" * 16
    house.views["door", 5] = [LOOKS[0]]
    house.say(number, "Ada", 5)
    row_of(web, number)
    found = web.post("/api/search", json={"row": number, "cameras": ["yard"]}).json()
    assert {hit["camera"] for hit in found["hits"]} == {"yard"}
    assert found["hits"][0]["sighting"] == ids[0]
    later = web.post("/api/search", json={"row": ids[1], "since": iso_time(time.time() - 3600)}).json()
    assert later["hits"][0]["sighting"] == ids[1]  # it is known from the history only
    nobody = web.post("/api/search", json={"name": "Ada", "until": iso_time(time.time() - 7200)}).json()
    assert (nobody["hits"], nobody["visits"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "expected one of"), ({"name": "Ada", "row": "s-1"}, "expected one of"), ({"name": "Cy"}, "not enrolled"),
        ({"row": "s-0000000000000000"}, "no views of this sighting"), ({"picture": "gone"}, "not kept any more"),
        ({"name": "Ada", "since": "soon"}, "expected a time"), ({"name": "Ada", "limit": 0}, "limit"),
        ({"name": "Ada", "since": "2026-02-02T00:00:00Z", "until": "2026-02-01T00:00:00Z"}, "later than"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_said_in_a_line(web: Web, query: dict[str, Any], words: str) -> None:
    answer = web.post("/api/search", json=query)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_without_a_history_a_search_says_how_to_keep_one(house: House) -> None:
    with Web(application(house.options(history="")), base_url=HOME) as client:
        answer = client.enter().post("/api/search", json={"name": "Ada"})
        assert answer.status_code == 400
        assert "history.path" in answer.json()["error"]


# --- people -----------------------------------------------------------------------------------------------------------


def test_details_merges_and_undo_reach_the_stream_and_the_audit_log(house: House, web: Web) -> None:
    details = {"labels": ["staff", " staff ", ""], "note": "second floor", "expires": "2099-01-31"}
    assert web.patch("/api/people/Ada", json=details).status_code == 200
    people = web.get("/api/people").json()["people"]
    assert (people[0]["labels"], people[0]["expires"]) == (["staff"], "2099-01-31")
    assert "a date such as" in web.patch("/api/people/Ada", json={"expires": "soon"}).json()["error"]
    assert web.patch("/api/people/Bo", json={"name": "Bo/Ek"}).json() == {"name": "Bo/Ek"}
    assert web.post("/api/people/merge", json={"into": "Ada", "other": "Bo/Ek"}).json() == {"name": "Ada"}
    (ada,) = web.get("/api/people").json()["people"]
    assert len(ada["views"]) == 2
    assert web.post("/api/people/unmerge", json={"name": "Bo/Ek"}).json() == {"names": ["Ada", "Bo/Ek"]}
    assert web.post("/api/people/undo").json()["kind"] == "unmerged"
    assert web.get("/api/people").json()["undo"]["kind"] == "merged"
    assert web.post("/api/people/undo").status_code == 200
    assert web.delete("/api/people/Bo/Ek").json() == {"views": 1}
    assert web.post("/api/people/undo").json()["names"] == ["Bo/Ek"]
    assert house.reloads == 8
    log = (house.place / "audit").read_text()
    assert "page.merged" in log
    assert house.gallery.id_of("Ada") in log
    assert not any(name in log for name in ("Ada", "Bo/Ek"))


def test_forgetting_says_what_it_will_erase_and_erases_it_here_as_well(house: House, web: Web) -> None:
    history_of(house)
    number, ada = "s-" + "b" * 16, house.gallery.id_of("Ada")
    house.views["door", 5] = [LOOKS[0]]
    house.say(number, "Ada", 5)
    row_of(web, number)
    will = web.get("/api/forget/Ada").json()
    assert (will["person"], will["gallery"]["views"], will["gallery"]["pictures"]) == (ada, 1, 1)
    assert (will["events"], will["history"]) == (1, 1)
    assert any("exported galleries" in place for place in will["not_reached"])
    assert house.gallery.views_of("Ada")  # nothing was done
    wrong = web.post("/api/forget/Ada", json={"confirm": "Bo"})
    assert (wrong.status_code, house.gallery.person("Ada").id) == (400, ada)
    done = web.post("/api/forget/Ada", json={"confirm": "Ada"}).json()
    receipt = done["receipt"]
    assert receipt["complete"], done
    assert (receipt["person"], receipt["history"]["deleted"], receipt["gallery"]["views"]) == (ada, 1, 1)
    assert "Ada" not in json.dumps(done)
    assert web.get(f"/api/sightings/{number}").status_code == 404  # gone from the page's memory
    assert web.get("/api/sightings").json()["rows"] == []
    assert web.get("/api/forget/Ada").status_code == 404
    assert "nothing to erase" in web.post("/api/forget/Ada", json={"confirm": "Ada"}).json()["error"]
    (entry,) = house.audit("forgotten")
    assert (entry["person"], entry["user"]) == (ada, "console")


def test_whoever_is_forgotten_by_the_command_leaves_the_pages_memory_too(
    house: House, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personsearch.runtime.operations.forget import forget
    from personsearch.runtime.operations.place import Place

    number = "s-" + "c" * 16
    house.views["door", 5] = [LOOKS[0]]
    house.say(number, "Ada", 5)
    row_of(web, number)
    place = Place(house.place / "people.gallery", *MODEL, journal=str(house.place / "events.db"))
    assert forget(place, "Ada", reload=house._reload)["complete"]
    wait_for(lambda: web.get(f"/api/sightings/{number}").status_code == 404, 30)


def test_somebody_is_enrolled_from_a_sighting_with_the_views_that_one_chooses(house: House, web: Web) -> None:
    number = "s-" + "d" * 16
    house.views["door", 6] = [LOOKS[9], near(LOOKS[9], 50), near(LOOKS[9], 51)]
    house.say(number, None, 6, stranger="stranger-0123abcd")
    row_of(web, number)
    suggested = web.post("/api/views", json={"row": number}).json()
    assert [view["quality"] for view in suggested["views"]] == [0.5] * 3
    choice = {"suggestion": suggested["suggestion"], "only": [0, 2]}
    done = web.post("/api/people", json={"name": "Cy", "views": [choice], "confirm": True})
    assert done.json()["views"] == 2
    assert len(house.gallery.views_of("Cy")) == 2
    beyond = web.post("/api/people", json={"name": "Cy", "views": [choice | {"only": [3]}]})
    assert "numbered from 0" in beyond.json()["error"]


# --- why and review ---------------------------------------------------------------------------------------------------


def test_a_decision_is_shown_view_beside_view(house: House, web: Web) -> None:
    number = "s-" + "e" * 16
    house.views["door", 5] = [near(LOOKS[0], 60), near(LOOKS[0], 61)]
    house.say(number, "Ada", 5)
    row_of(web, number)
    why = web.get(f"/api/sightings/{number}/why").json()
    assert (len(why["seen"]), len(why["enrolled"]), why["of"]) == (2, 1, 1)
    assert np.array(why["cosines"]).shape == (2, 1)
    assert why["enrolled"][0]["picture"]
    assert web.get("/api/portraits/0/Ada").headers["content-type"] == "image/jpeg"
    assert web.get("/api/portraits/0/Bo").status_code == 404
    seen = [entry["person"] for entry in house.audit("page.seen") if entry["what"] == "portraits"]
    assert seen == [house.gallery.id_of("Ada"), house.gallery.id_of("Bo")]
    assert web.get("/api/sightings/s-nowhere/why").status_code == 404


def test_names_that_surprise_wait_and_answers_are_undone_after_a_restart(house: House, web: Web) -> None:
    plain, close, taken_back = ("s-" + letter * 16 for letter in "123")
    for track, number in enumerate((plain, close, taken_back), start=1):
        house.views["door", track] = [near(LOOKS[0], 70 + track)]
        house.say(number, "Ada", track)
        row_of(web, number)
    evidence = {"similarity": 0.6, "threshold": 0.4, "log_likelihood_ratio": 4.0, "views": 3, "quality": 0.5,
                "runner_up": house.gallery.id_of("Bo"), "margin": 0.04, "false_names_per_day": 0.01}  # fmt: skip
    house.say(close, "Ada", 2, "updated", evidence=evidence)
    house.say(taken_back, "Bo", 3, "corrected", previous=house.gallery.id_of("Ada"))
    house.say(taken_back, "Bo", 3, "ended")
    waiting = soon(lambda: len((found := web.get("/api/review").json())["rows"]) == 2 and found)
    why = {row["id"]: row["why"] for row in waiting["rows"]}
    assert why[close] == "nearly as like Bo"
    assert why[taken_back] == "Ada was said first, and taken back"
    assert plain not in why
    done = web.post(f"/api/review/{close}", json={"answer": "no"}).json()
    assert (done["views"], done["row"]["answer"]) == (1, "no")
    assert done["outcome"] == "Whoever was told another name is told this now."
    assert soon(lambda: (row := row_of(web, close))["reason"] == "reviewed" and row)["name"] == ""
    assert len(house.gallery.person("Ada").negatives) == 1
    assert (
        web.post(f"/api/review/{taken_back}", json={"answer": "name", "name": "Ada"}).json()["row"]["answer"] == "Ada"
    )
    assert web.get("/api/review").json()["answered"] == {"yes": 0, "no": 1, "name": 1}
    assert "answered already" in web.post(f"/api/review/{close}", json={"answer": "yes"}).json()["error"]
    web.patch("/api/people/Ada", json={"name": "Ada Lovelace"})
    with Web(application(house.options()), base_url=HOME) as again:  # another process of the page
        again.enter()
        recent = again.get("/api/review").json()["recent"]
        assert [(a["answer"], a["said"]) for a in recent] == [("name", "Bo"), ("no", "Ada Lovelace")]
        for number in (close, taken_back):
            assert again.post(f"/api/review/{number}/undo").json()["outcome"].startswith("Whoever was told")
        named = [(close, "Ada Lovelace", False), (taken_back, "Bo", True)]
        for number, name, corrected in named:  # as before the answers
            wait_for(lambda n=number, w=name: again.get(f"/api/sightings/{n}").json().get("name") == w, 30)
            assert again.get(f"/api/sightings/{number}").json()["corrected"] == corrected
        assert again.post(f"/api/review/{close}/undo").status_code == 400
    ada = house.gallery.person("Ada Lovelace")
    assert (len(ada.views), len(ada.negatives)) == (1, 0)
    assert load_reviews(reviews_file(house.place / "people.gallery")) == {}


# --- live -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def frames(house: House) -> Iterator[None]:
    """The door is seen fifty times a second."""
    stop = threading.Event()

    def see() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            house.control.see(Frame("door", IMAGE, number, time.time(), 0.0, picture_size=(480, 270)), [], [])

    thread = threading.Thread(target=see)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("frames")
def test_pictures_are_as_wide_as_the_largest_screen_shows_them(web: Web) -> None:
    def looks(socket: Any, width: int) -> None:
        socket.send_text(json.dumps({"cameras": ["door"], "width": width}))

    def becomes(socket: Any, width: int) -> bool:
        for _ in range(20):  # one may have been under way
            message = socket.receive_bytes()
            socket.send_text("ok")
            (head,) = struct.unpack_from("<I", message)
            if cv2.imdecode(np.frombuffer(message[4 + head :], np.uint8), cv2.IMREAD_COLOR).shape[1] == width:
                return True
        return False

    live, own = HOME.replace("http", "ws") + "/api/live", {"origin": HOME}
    with web.websocket_connect(live, headers=own) as phone:
        for asked, given in ((200, 240), (0, 480), (5000, 480), (200, 240)):
            looks(phone, asked)
            assert becomes(phone, given)
        with web.websocket_connect(live, headers=own) as screen:
            looks(screen, 300)
            assert becomes(screen, 320)
            assert becomes(phone, 320)
        assert becomes(phone, 240)


# --- on record --------------------------------------------------------------------------------------------------------


def test_what_is_seen_is_on_record_once_an_hour_for_each_session_and_thing(house: House, web: Web) -> None:
    for _ in range(5):
        web.get("/api/sightings?person=Ada")
        web.get("/api/sightings")
        web.get("/api/people")
    with web.websocket_connect(HOME.replace("http", "ws") + "/api/live", headers={"origin": HOME}) as socket:
        socket.send_text('{"cameras": ["door", "yard"]}')
        wait_for(lambda: len(house.audit("page.seen")) == 5, 30)
        socket.send_text('{"cameras": ["door"]}')
    seen = [(entry["what"], entry.get("camera"), entry.get("person")) for entry in house.audit("page.seen")]
    assert seen == [
        ("sightings", None, house.gallery.id_of("Ada")), ("sightings", None, None), ("people", None, None),
        ("live", "door", None), ("live", "yard", None),
    ]  # fmt: skip
    assert {entry["user"] for entry in house.audit("page.seen")} == {"console"}
    web.get("/api/export/sightings.csv")
    web.get("/api/export/sightings.csv")
    assert len(house.audit("page.export")) == 2  # what leaves the box is always on record


def test_what_cannot_be_put_on_record_is_neither_shown_nor_done(house: House, web: Web) -> None:
    (house.place / "audit").write_text("no entry of an audit log\n")
    for answer in (
        web.get("/api/people"), web.get("/api/sightings"), web.post("/api/search", json={"name": "Ada"}),
    ):  # fmt: skip
        assert answer.status_code == 400
        assert "audit" in answer.json()["error"]
    (house.place / "audit").unlink()
    (house.place / "audit").mkdir()
    assert web.delete("/api/people/Ada").status_code == 400
    assert house.gallery.views_of("Ada")


def test_viewers_neither_search_nor_review_nor_forget(house: House) -> None:
    set_password(house.place / "page.users", "guest", PASSWORD, "viewer")
    with Web(application(house.options()), base_url=HOME) as client:
        client.enter("guest")
        for method, path in (
            ("POST", "/api/search"), ("GET", "/api/review"), ("GET", "/api/forget/Ada"), ("POST", "/api/forget/Ada"),
            ("POST", "/api/people/merge"), ("POST", "/api/people/undo"), ("POST", "/api/views"),
            ("GET", "/api/portraits/0/Ada"), ("GET", "/api/searches/x/sheet.png"),
        ):  # fmt: skip
            assert client.request(method, path, json={}).status_code == 403, path
        assert client.get("/api/people").status_code == 200


# --- health and settings ----------------------------------------------------------------------------------------------


def test_health_says_what_the_doctor_finds(house: House, web: Web) -> None:
    findings = web.get("/api/doctor").json()["findings"]
    assert {"part": "files", "state": "ok", "text": "gallery: 2 people are enrolled"} in findings
    assert all(finding["state"] in ("ok", "note", "problem") for finding in findings)


def test_how_long_things_are_kept_is_set_by_the_page(house: House, web: Web) -> None:
    shown = web.get("/api/settings").json()
    assert shown["keeping"]["journal"]["keep_hours"] == 12
    assert (shown["kept"]["journal"], shown["kept"]["record"]) == (True, False)
    change = {"version": shown["version"], "keeping": {"journal": {"keep_hours": 6}}}
    assert web.patch("/api/settings", json=change).json()["changed"] == "journal.keep_hours 6"
    assert "# cameras" in (house.place / "cams.yaml").read_text()
    assert house.reloads == 1


def test_a_reload_takes_over_how_long_things_are_kept_and_no_other_place(house: House) -> None:
    """The part of a box that a stream without cameras has: files, reloader, and those who keep things."""
    from personsearch.core.config import load_settings
    from personsearch.runtime.box import _keep_for
    from personsearch.runtime.operations.audit import AuditLog
    from personsearch.runtime.operations.place import Place
    from personsearch.runtime.operations.reload import Reloader
    from personsearch.runtime.operations.retention import Retention

    cams, pipeline = house.place / "cams.yaml", house.control.pipeline
    pipeline.settings = load_settings(cams, StreamSettings)
    place = Place(house.place / "people.gallery", *MODEL, audit=AuditLog(house.place / "audit"))
    retention = Retention(place, 30, lambda: None)
    reloader = Reloader(cams, place.gallery, "", pipeline)
    reloader.listeners.append(lambda new: _keep_for(new, house.publisher, None, None, retention))
    text = cams.read_text().replace("keep_hours: 12", "keep_hours: 3")
    cams.write_text(text + "audit: {keep_days: 200}\nretention: {expired_days: 7}\n")
    assert reloader.reload()
    assert house.publisher.journal.settings.keep_hours == 3
    assert (retention.expired_days, place.audit.keep_days) == (7, 200)
    cams.write_text(text.replace("events.db", "other.db"))
    assert not reloader.reload()
    assert house.publisher.journal.settings.keep_hours == 3
