"""One visit, one sighting: people walk through real trackers, judges and a gallery; only their pictures are made up."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import REPOSITORY

from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError
from personsearch.core.odds import Odds
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Tracker
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.centring import PrototypeMean
from personsearch.runtime.decisions.evidence import TrackEvidence
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.judge import Judge
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.decisions.open_visits import MOST
from personsearch.runtime.decisions.recognition import Recognition
from personsearch.runtime.decisions.sighting import Sighting, SightingChange, Stay
from personsearch.runtime.decisions.sightings import BLIND_S, Sightings
from personsearch.runtime.delivery.events import EventFactory, from_iso, read_event
from personsearch.runtime.settings import StreamSettings

D, MODEL = 64, "a" * 16
WALL = 1_800_000_000.0
STEP_S = 0.2
PICTURE = np.random.default_rng(0).integers(0, 255, (200, 640, 3), np.uint8)
ODDS = Odds.model_validate(
    {
        "impostor": [[0.0, 0.5], [0.2, 0.05], [0.4, 0.001], [0.6, 0.00001]],
        "evidence": [{"views": 1, "slope": 30.0, "offset": -6.0}, {"views": 5, "slope": 32.0, "offset": -9.5}],
        "pairs": 100_000,
    }
)
NAMES = {0: "Ada", 1: "Bo", 2: "Cy"}
SCHEMA = json.loads((REPOSITORY / "runtime" / "delivery" / "sighting.schema.json").read_text())


def looks(person: float, seed: int = 0) -> np.ndarray:
    """(D,) somebody's look; 0.5 is between Ada and Bo, who are 0 and 1."""
    whole, part = math.floor(person), person - math.floor(person)
    vector = (1 - part) * np.eye(D)[whole] + part * np.eye(D)[whole + 1]
    vector = vector + 0.2 * np.random.default_rng((whole, seed)).normal(size=D) / np.sqrt(D)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def settings_of(cameras: tuple[str, ...] = ("door", "yard"), next_to: dict | None = None, **sightings: object):
    rows = [{"name": name, "url": "rtsp://127.0.0.1/x"} for name in cameras]
    if next_to:
        rows[0]["next_to"] = next_to
    return StreamSettings.model_validate({"cameras": rows, "sightings": sightings})


def gallery_of(*people: int) -> Gallery:
    """With ids that follow from the names, as galleries of the first format have them."""
    return Gallery(MODEL, D, [NAMES[p] for p in people], [EnrolledView(looks(p, 99)) for p in people])


@dataclass
class Box:
    """Cameras without pictures: who is where is said by the test."""

    settings: StreamSettings = field(default_factory=settings_of)
    files: bool = False
    people: tuple[int, ...] = (0, 1, 2)
    told: list[tuple[str, str, str, str | None]] = field(default_factory=list)  # change, reason, camera, person
    events: list[dict] = field(default_factory=list)
    stays: list[tuple[Sighting, Stay]] = field(default_factory=list)
    wall_shift: float = 0.0

    def __post_init__(self) -> None:
        self.gallery = gallery_of(*self.people)
        self.sightings = Sightings(self.settings, self.gallery)
        self.sightings.listeners.append(self._hear)
        self.sightings.stay_listeners.append(lambda sighting, stay: self.stays.append((sighting, stay)))
        self.lineup = Lineup(self.gallery, lambda _: None)
        self.recognitions: dict[str, Recognition] = {}
        self.began = time.monotonic()
        self.step = 0
        for camera in self.settings.cameras:
            self.set_up(camera.name)

    def set_up(self, camera: str) -> None:
        judge = Judge(self.settings.match, ODDS, self.lineup)
        tracker = Tracker(self.settings.tracking, 0.3)
        self.recognitions[camera] = Recognition(tracker, self.settings.describe, PrototypeMean(D), judge)

    def _hear(self, change: SightingChange) -> None:
        event = EventFactory("box", MODEL).sighting(change, self.gallery, WALL)
        stamped = {"id": f"{'0' * 32}-1", "boot": "0" * 32, "sequence": 1, "topic_sequence": 1, **event}
        jsonschema.validate(stamped, SCHEMA)
        assert read_event(json.dumps(stamped)) == stamped
        assert not any(name in json.dumps(stamped) for name in NAMES.values())
        self.events.append(event)
        self.told.append((change.change, change.reason, change.camera, change.sighting.person))

    def see(self, camera: str, at: float, people: dict[float, float], look: dict[float, float] | None = None) -> None:
        """One frame, `at` seconds after the start: people (by number) stand at these places of the picture."""
        self.step += 1
        moment = at if self.files else self.began + at
        boxes = np.array([[x, 50, x + 40, 170] for x in people.values()], np.float32).reshape(-1, 4)
        rows = [looks((look or {}).get(person, person), self.step) for person in people]
        found = Detections(boxes, np.full(len(boxes), 0.9), np.array(rows, np.float32).reshape(-1, D))
        frame = Frame(
            camera, PICTURE, self.step, WALL + at + self.wall_shift, self.began + at, None, picture_size=(640, 200),
            moment=moment,
        )  # fmt: skip
        recognition = self.recognitions[camera]
        recognition.see(PICTURE, found, frame.moment, frame.wall)
        self.sightings.see(frame, recognition, recognition.decide(frame.wall))

    def watch(self, camera: str, start: float, end: float, people: dict[float, float], **more: object) -> None:
        for at in np.arange(start, end, STEP_S):
            self.see(camera, float(at), people, **more)  # type: ignore[arg-type]

    @property
    def changes(self) -> list[str]:
        return [f"{change} {reason} {camera} {person or '-'}" for change, reason, camera, person in self.told]


def test_nobody_makes_no_sighting() -> None:
    box = Box()
    box.watch("door", 0, 3, {})
    box.sightings.close()
    assert box.told == []
    assert box.stays == []
    assert box.sightings.open == []


def test_ten_minutes_are_one_sighting_and_a_stranger_is_not_told_of() -> None:
    box = Box()
    box.watch("door", 0, 60, {0: 100, 5: 400})
    assert box.changes == ["started named door Ada"]
    box.watch("door", 60, 75, {})
    assert box.changes == ["started named door Ada", "ended left door Ada"]
    started, ended = box.events
    assert started["sighting"] == ended["sighting"]
    assert started["person"] == box.gallery.id_of("Ada")
    assert started["bounding_box"] == {"x": 100.0, "y": 50.0, "w": 40.0, "h": 120.0}
    assert ended["evidence"]["similarity"] > 0.8
    assert ended["evidence"]["runner_up"] in (box.gallery.id_of("Bo"), box.gallery.id_of("Cy"))
    assert ended["duration_s"] == pytest.approx(60 - STEP_S, abs=0.5)
    assert from_iso(ended["last_seen"]) - from_iso(ended["started"]) == pytest.approx(ended["duration_s"], abs=0.01)
    assert [sighting.person for sighting, _ in box.stays].count(None) == 1
    assert all(stay.camera == "door" and 0 < len(stay.views) <= 5 for _, stay in box.stays)
    assert np.allclose(np.median([view.box for _, stay in box.stays for view in stay.views], axis=0)[1::2], [50, 170])


@pytest.mark.parametrize(
    ("away", "visits"),
    [(2.0, 1), (8.0, 1), (9.0, 1), (14.0, 2), (40.0, 2)],
    ids=["a pillar", "a lorry", "just in time", "left", "left for long"],
)
def test_whoever_is_back_within_the_grace_time_never_left(away: float, visits: int) -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    box.watch("door", 5, 5 + away, {})
    box.watch("door", 5 + away, 10 + away, {0: 300})
    box.sightings.close()
    assert [change for change, *_ in box.told].count("started") == visits
    assert [change for change, *_ in box.told].count("ended") == visits
    assert len(box.changes) == 2 * visits


def test_time_in_which_the_engine_was_away_is_no_absence() -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    box.sightings.tick(box.began + 60)
    box.watch("door", 65, 70, {0: 110})  # a fresh engine, a fresh track
    box.sightings.close()
    assert box.changes == ["started named door Ada", "ended stopped door Ada"]
    assert box.events[-1]["duration_s"] == pytest.approx(70, abs=1)


def test_an_engine_that_gave_up_or_was_away_for_long_ends_visits() -> None:
    for end in ("gave up", "away"):
        box = Box()
        box.watch("door", 0, 5, {0: 100})
        if end == "gave up":
            box.sightings.engine_gave_up()
        else:
            box.sightings.tick(box.began + BLIND_S + 10)
        assert box.changes[-1] == "ended engine door Ada", end


def test_a_camera_that_is_gone_ends_the_visit_with_its_cause_after_the_grace_time() -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    box.sightings.camera_state("door", "offline", "end")  # the connection was closed; it is tried again
    now = time.monotonic()
    box.sightings.tick(now + 5)
    assert len(box.told) == 1
    box.sightings.camera_state("door", "online", "")
    box.sightings.tick(now + 30)
    assert len(box.told) == 1  # it came back in time
    box.sightings.camera_state("door", "offline", "timeout")
    box.sightings.tick(now + 30)
    assert box.changes[-1] == "ended timeout door Ada"
    assert len(box.stays) == 1


def test_a_file_that_ends_ends_its_visits_even_if_frames_were_still_under_way() -> None:
    box = Box(files=True)
    box.watch("door", 0, 5, {0: 100})
    box.sightings.camera_state("door", "ended", "end")
    box.sightings.tick(box.began + 60, ["door"])  # a slow engine is still at its last frames
    box.watch("door", 5, 6, {0: 100})
    box.sightings.tick(box.began + 90)
    assert box.changes == ["started named door Ada", "ended end door Ada"]
    assert box.events[-1]["duration_s"] == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_a_clock_that_is_set_in_the_middle_of_a_visit_changes_no_duration(shift: float) -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    box.wall_shift = shift
    box.watch("door", 5, 12, {0: 100})
    box.watch("yard", 12, 15, {0: 100})
    box.sightings.close()
    last = box.events[-1]
    assert [e["change"] for e in box.events] == ["started", "updated", "ended"]
    assert last["duration_s"] == pytest.approx(15, abs=0.5)
    assert last["started"] <= last["last_seen"]
    assert [stay["from"] <= stay["to"] for stay in last["cameras"]] == [True, True]


def test_a_person_who_walks_into_another_camera_goes_on_under_the_same_sighting() -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    for at in np.arange(5, 12, STEP_S):  # both look, Ada is on her way and then in the yard
        box.see("door", float(at), {})
        box.see("yard", float(at), {0: 300} if at > 8 else {})
    box.watch("door", 12, 30, {})
    box.watch("yard", 12, 30, {})
    assert box.changes == ["started named door Ada", "updated camera yard Ada", "ended left yard Ada"]
    assert [stay["camera"] for stay in box.events[-1]["cameras"]] == ["door", "yard"]
    assert [stay.camera for _, stay in box.stays] == ["door", "yard"]
    assert len({event["sighting"] for event in box.events}) == 1


def test_travel_times_say_who_can_have_come_from_where() -> None:
    for away, visits in ((0.0, 2), (20.0, 1), (40.0, 2)):
        box = Box(settings_of(next_to={"yard": "10-30s"}))
        box.watch("door", 0, 5, {0: 100})
        for at in np.arange(5, 5 + away, STEP_S):
            box.see("door", float(at), {})
            box.sightings.tick(box.began + float(at))
        box.watch("yard", 5 + away, 10 + away, {0: 300})
        box.sightings.close()
        assert [change for change, *_ in box.told].count("started") == visits, away


def test_files_are_compared_by_their_own_times_at_any_speed() -> None:
    box = Box(files=True)
    box.watch("yard", 0, 8, {})
    box.watch("door", 0, 5, {0: 100})
    box.watch("door", 5, 30, {})  # is read faster, and has passed the grace time
    assert box.changes == ["started named door Ada"]
    box.watch("yard", 8, 12, {0: 300})
    box.watch("yard", 12, 40, {})
    box.watch("door", 30, 40, {})
    assert box.changes == ["started named door Ada", "updated camera yard Ada", "ended left yard Ada"]
    assert box.events[-1]["duration_s"] == pytest.approx(12, abs=0.5)


def test_a_name_that_later_evidence_overturns_is_taken_back_once() -> None:
    box = Box()
    box.watch("door", 0, 3, {0: 100})
    track = box.recognitions["door"].tracks[0]
    box.watch("door", 3, 30, {0: 100}, look={0: 1})  # it was Bo all the time
    box.sightings.close()
    kinds = [change for change, *_ in box.told]
    assert kinds.count("corrected") == 1, box.changes
    corrected = next(event for event in box.events if event["change"] == "corrected")
    assert corrected["previous"] == box.gallery.id_of("Ada")
    assert corrected["person"] in (None, box.gallery.id_of("Bo"))
    assert track.number == 1
    assert kinds.count("started") == kinds.count("ended")


def test_of_two_cameras_only_the_one_that_erred_is_taken_back() -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    recognition = box.recognitions["yard"]
    box.watch("yard", 5, 8, {3: 300}, look={3: 0})
    assert box.changes[-1] == "updated camera yard Ada"
    evidence = recognition.evidence[1]
    evidence.views, evidence.described, evidence.looks = [], 9, 3  # of what follows the next look is made
    for at in np.arange(8, 30, STEP_S):
        box.see("yard", float(at), {3: 300}, look={3: 1})
        box.see("door", float(at), {0: 100})
    box.sightings.close()
    corrected = [event for event in box.events if event["change"] == "corrected"]
    assert [event["reason"] for event in corrected] == ["track"], box.changes
    assert corrected[0]["previous"] == corrected[0]["person"] == box.gallery.id_of("Ada")
    assert [stay["camera"] for stay in corrected[0]["cameras"]] == ["door"]
    assert "started named yard Bo" in box.changes


def test_strangers_have_pseudonyms_that_stay_if_they_are_wanted() -> None:
    box = Box(settings_of(strangers=True))
    box.watch("door", 0, 6, {5: 100, 6: 400})
    box.watch("door", 6, 18, {6: 400})  # one goes ...
    box.watch("door", 18, 24, {5: 150, 6: 400})  # ... and comes back later
    box.sightings.close()
    started = [event for event in box.events if event["change"] == "started"]
    assert [event["reason"] for event in started] == ["stranger"] * 3
    assert started[0]["stranger"] in (started[2]["stranger"], started[1]["stranger"])
    assert len({event["stranger"] for event in started}) == 2
    assert all(event["person"] is None and event["evidence"] is None for event in box.events)
    assert [event["change"] for event in box.events].count("ended") == 3


def test_a_stranger_who_turns_out_to_be_somebody_goes_on_under_the_name() -> None:
    box = Box(settings_of(strangers=True))
    box.watch("door", 0, 4, {5: 100})
    assert box.changes == ["started stranger door -"]
    evidence = box.recognitions["door"].evidence[1]
    evidence.views, evidence.described, evidence.looks = [], 9, 3
    box.watch("door", 4, 10, {5: 100}, look={5: 2})
    box.sightings.close()
    assert box.changes == ["started stranger door -", "updated named door Cy", "ended stopped door Cy"]


def test_whoever_is_forgotten_ends_without_a_trace_and_a_new_name_is_the_same_person() -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100, 1: 400})
    without = copy.deepcopy(box.gallery)
    without.remove("Ada")
    box.lineup = Lineup(without, lambda _: None)
    recognition = box.recognitions["door"]
    recognition.judge.lineup = box.lineup
    recognition.judge.again(list(recognition.evidence.values()))
    box.sightings.apply(box.settings, without)
    box.watch("door", 5, 10, {0: 100, 1: 400})
    assert [c for c in box.changes if c.startswith("ended")] == ["ended forgotten door Ada"]
    assert [c for c in box.changes if c.startswith("started")] == ["started named door Ada", "started named door Bo"]
    assert box.stays == []


@pytest.mark.parametrize("both", [True, False])
def test_whoever_was_merged_into_another_goes_on_as_that_one(both: bool) -> None:
    """Merged while on a visit: nothing is forgotten, and two visits of what is one person become one."""
    box = Box()
    people = {1: 400, 0: 100} if both else {1: 400}
    box.watch("door", 0, 5, people)
    merged = copy.deepcopy(box.gallery)
    ada, bo = merged.id_of("Ada"), merged.id_of("Bo")
    merged.merge("Ada", "Bo")
    assert merged.names_by_id()[bo] == "Ada"
    box.gallery, box.lineup = merged, Lineup(merged, lambda _: None)
    recognition = box.recognitions["door"]
    recognition.judge.lineup = box.lineup
    recognition.judge.again(list(recognition.evidence.values()))
    box.sightings.apply(box.settings, merged)
    assert {visit.person_id for visit in box.sightings.open} == {ada}
    box.watch("door", 5, 10, people)
    box.sightings.close()
    assert not [c for c in box.changes if "forgotten" in c]
    ends = [c for c in box.changes if c.startswith("ended")]
    assert ends == (["ended joined door Ada", "ended stopped door Ada"] if both else ["ended stopped door Ada"])
    assert ("updated named door Ada" in box.changes) != both
    assert {stay[0].person_id for stay in box.stays} == {ada}


def test_a_reload_ends_what_was_removed_and_goes_on_with_the_rest() -> None:
    box = Box()
    box.watch("door", 0, 5, {0: 100})
    box.watch("yard", 0, 5, {1: 100})
    box.set_up("door")  # its settings were changed: its tracks begin at 1 again
    box.sightings.camera_state("door", "ended", "end")
    box.sightings.apply(settings_of(("door",)), box.gallery, ["door", "yard"])
    box.sightings.camera_state("door", "online", "")
    box.watch("door", 6, 10, {2: 300, 0: 100})
    box.sightings.close()
    ends = [c for c in box.changes if c.startswith("ended")]
    assert sorted(ends) == ["ended removed yard Bo", "ended stopped door Ada", "ended stopped door Cy"]
    assert box.changes.count("started named door Ada") == 1
    assert "started named door Cy" in box.changes


def test_ten_thousand_tracks_cost_little_and_leave_nothing() -> None:
    box = Box()
    recognition = box.recognitions["door"]
    image = np.zeros((200, 640, 3), np.uint8)
    box.watch("door", 0, 1, {7: 100})
    track, evidence = recognition.tracks[0], recognition.evidence[1]
    spent, frames = 0.0, 100
    for number in range(frames):
        moment = box.began + 1 + number * STEP_S
        crowd = [replace(track, number=2 + 100 * number + i, first_seen=moment, last_seen=moment) for i in range(100)]
        recognition.tracks = crowd
        recognition.evidence = {t.number: TrackEvidence(views=evidence.views[:1], described=1) for t in crowd}
        frame = Frame("door", image, number, WALL, moment, None, picture_size=(640, 200))
        began = time.process_time()
        box.sightings.see(frame, recognition, [])
        spent += time.process_time() - began
    assert 5000 < len(box.sightings.open) <= MOST
    recognition.tracks, recognition.evidence = [], {}
    box.watch("door", 30, 45, {})
    assert box.sightings.open == []
    assert len(box.stays) == 10_001
    assert spent / frames < 0.1  # seconds a frame of a hundred newcomers; 7 ms on a busy core


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    box = Box()

    def full(_change: SightingChange) -> None:
        raise OSError(28, "No space left on device")

    box.sightings.listeners.insert(0, full)
    box.watch("door", 0, 5, {0: 100})
    assert box.changes == ["started named door Ada"]
    assert "a listener to sightings failed" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("next_to: {shed: 2-20s}", "'shed' is no other camera"),
        ("next_to: {door: 2-20s}", "'door' is no other camera"),
        ("next_to: {yard: 20-2s}", "the shorter time first"),
        ("next_to: {yard: soon}", "such as 2-20s"),
        ("next_to: {yard: 1-9999s}", "3600"),
    ],
)
def test_wrong_travel_times_are_explained(tmp_path: Path, text: str, words: str) -> None:
    cams = tmp_path / "cams.yaml"
    cams.write_text(f"cameras:\n  - name: door\n    url: a.avi\n    {text}\n  - {{name: yard, url: b.avi}}\n")
    with pytest.raises(ConfigError, match=words):
        load_settings(cams, StreamSettings)


def test_travel_times_are_read_in_any_of_their_forms() -> None:
    for text in ("2-20s", "2 - 20 s", "2-20", [2, 20]):
        assert settings_of(next_to={"yard": text}).cameras[0].next_to == {"yard": (2.0, 20.0)}, text
    assert settings_of(next_to={"yard": 20}).cameras[0].next_to == {"yard": (0.0, 20.0)}
    assert settings_of(next_to={"yard": "20s"}).cameras[0].next_to == {"yard": (0.0, 20.0)}
