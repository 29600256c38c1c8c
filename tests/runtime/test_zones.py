"""Zones, lines and hours: geometry with a margin, what sightings make of it, and what may stand in the file."""

from __future__ import annotations

import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import assert_user_error, call, run
from test_sightings import PICTURE, WALL, Box

from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError
from personsearch.core.hours import HoursSettings
from personsearch.core.records import Detections
from personsearch.core.zones import Areas, LineSettings, ZoneSettings
from personsearch.core.zones import Path as Way
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.zones import drop_outside_hours, outside_zones
from personsearch.runtime.settings import StreamSettings

# The feet of the test's people are at y = 0.85; an L around the right half.
TILL = {"name": "till", "polygon": [[0.5, 0.2], [1, 0.2], [1, 1], [0.75, 1], [0.75, 0.5], [0.5, 0.5]]}
RIGHT = {"name": "right", "polygon": [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]]}
CORNER = "{name: a, polygon: [[0, 0], [1, 0], [1, 1]]}"
GATE = {"name": "gate", "points": [[0.5, 1.0], [0.5, 0.5]]}  # upwards: its right is the picture's right


def camera_of(**more: object) -> CameraSettings:
    return CameraSettings.model_validate({"name": "door", "url": "rtsp://127.0.0.1/x", **more})


def walk(areas: Areas, *points: tuple[float, float]) -> list[str]:
    way, said = Way(), []
    for point in points:
        step = areas.step(way, np.array(point))
        said += [*step.zones, *step.lines]
    return said


def areas_of(*zones: dict, lines: tuple[dict, ...] = ()) -> Areas:
    return Areas([ZoneSettings.model_validate(z) for z in zones], [LineSettings.model_validate(line) for line in lines])


def test_without_zones_nothing_is_said() -> None:
    assert not areas_of()
    assert walk(areas_of(), (0.1, 0.1), (0.9, 0.9)) == []


def test_a_zone_is_entered_from_outside_and_by_two_frames() -> None:
    till = areas_of(TILL)
    assert walk(till, (0.2, 0.4), (0.8, 0.4), (0.8, 0.4)) == ["till"]
    assert walk(till, (0.2, 0.4), (0.8, 0.4), (0.2, 0.4), (0.8, 0.4)) == []  # trembles at its border
    assert walk(till, (0.8, 0.4), (0.8, 0.4), (0.8, 0.4)) == []  # was there from the start
    assert walk(till, (0.2, 0.4), (0.6, 0.8), (0.6, 0.8)) == []  # in the notch of the L
    assert walk(till, *[(0.2, 0.4)] * 2, *[(0.8, 0.8)] * 3, *[(0.2, 0.4)] * 3, *[(0.8, 0.8)] * 3) == ["till", "till"]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([(0.2, 0.8), (0.8, 0.8)], ["gate:in"]),
        ([(0.8, 0.8), (0.2, 0.8)], ["gate:out"]),
        ([(0.2, 0.2), (0.8, 0.2)], []),  # past its end
        ([(0.2, 0.8), (0.495, 0.8), (0.505, 0.8), (0.495, 0.8), (0.505, 0.8)], []),  # stands on it
        ([(0.2, 0.8), (0.505, 0.8), (0.6, 0.8), (0.505, 0.8), (0.4, 0.8)], ["gate:in", "gate:out"]),
        ([(0.8, 0.8)], []),
    ],
    ids=["in", "out", "past it", "trembling", "there and back", "appears"],
)
def test_a_line_is_crossed_with_a_direction(points: list[tuple[float, float]], said: list[str]) -> None:
    assert walk(areas_of(lines=(GATE,)), *points) == said
    only_in = areas_of(lines=({**GATE, "tell": "in"},))
    assert walk(only_in, *points) == [name for name in said if name.endswith(":in")]


def test_people_in_zones_to_ignore_are_left_out_by_their_feet_and_in_boxes_by_their_centre() -> None:
    frame = Frame("door", PICTURE, 0, WALL, 1.0, None, (100.0, 50.0), 0.5, (400, 300))
    # In the analysed image: half the size, from (100, 50) on.
    boxes = np.array([[0, 0, 20, 40], [100, 0, 120, 100]], np.float32)
    found = Detections(boxes, np.full(2, 0.9), np.zeros((2, 0)))
    street = {"name": "street", "polygon": [[0.7, 0.5], [1, 0.5], [1, 1], [0.7, 1]], "kind": "ignore"}
    assert outside_zones(found, frame, camera_of(zones=[street])).boxes.tolist() == [boxes[0].tolist()]
    assert outside_zones(found, frame, camera_of(ignore=[[0, 0, 0.5, 1]])).boxes.tolist() == [boxes[1].tolist()]
    assert len(outside_zones(found, frame, camera_of(zones=[{**street, "kind": "watch"}]))) == 2
    assert len(outside_zones(Detections.empty(0), frame, camera_of(zones=[street]))) == 0


def test_a_sighting_says_which_zone_was_entered_and_which_line_was_crossed() -> None:
    box = Box(StreamSettings(cameras=(camera_of(zones=[RIGHT], lines=[{**GATE, "points": [[0.7, 1], [0.7, 0.5]]}]),)))
    for step in range(100):
        box.see("door", step * 0.2, {0: 100 + min(step, 60) * 6})
    box.sightings.close()
    assert box.changes == [
        "started named door Ada", "updated zone door Ada", "updated line door Ada", "ended stopped door Ada",
    ]  # fmt: skip
    assert [event["zones"] for event in box.events] == [[], ["right"], ["right", "gate:in"], ["right", "gate:in"]]


def test_with_an_entering_zone_only_those_who_come_in_are_told_of() -> None:
    entering = {**RIGHT, "kind": "entering"}
    box = Box(StreamSettings(cameras=(camera_of(zones=[entering]),)))
    for step in range(80):  # Ada comes in, Bo passes outside, Cy sits inside from the start
        box.see("door", step * 0.2, {0: 40 + min(step, 60) * 7, 1: 20, 2: 560})
    box.sightings.close()
    assert box.changes == ["started named door Ada", "ended stopped door Ada"]
    assert box.events[0]["zones"] == ["right"]
    assert len(box.stays) == 3


def wall(text: str, zone: str = "+00:00") -> float:
    return datetime.datetime.fromisoformat(f"{text}{zone}").timestamp()


@pytest.mark.parametrize(
    ("hours", "moment", "active"),
    [
        ("mon-fri 08:00-18:00", "2026-11-25T08:00", True),  # a Wednesday
        ("mon-fri 08:00-18:00", "2026-11-25T18:00", False),
        ("mon-fri 08:00-18:00", "2026-11-28T12:00", False),
        ("sat,sun 22:00-04:00", "2026-11-30T03:59", True),  # Sunday's, on Monday
        ("sat,sun 22:00-04:00", "2026-11-28T03:59", False),  # Friday's would be
        ("fri-mon 00:00-24:00", "2026-11-29T12:00", True),
        ("fri-mon 00:00-24:00", "2026-11-25T12:00", False),
        ("Daily 00:00-24:00", "2026-11-25T23:59", True),
    ],
)
def test_hours_of_the_week(hours: str, moment: str, active: bool) -> None:
    assert HoursSettings(hours=(hours,), time_zone="UTC").active(wall(moment)) is active


def test_hours_follow_their_time_zone_over_the_change_of_the_clocks() -> None:
    berlin = HoursSettings(hours=("daily 08:00-09:00",), time_zone="Europe/Berlin")
    assert berlin.active(wall("2026-07-01T06:30"))
    assert not berlin.active(wall("2026-12-01T06:30"))
    assert berlin.active(wall("2026-12-01T07:30"))


def test_outside_its_hours_a_camera_is_not_analysed_and_its_visits_end() -> None:
    never = "mon 00:00-00:01" if datetime.datetime.now(datetime.timezone.utc).weekday() != 0 else "tue 00:00-00:01"
    settings = camera_of(active={"hours": [never], "time_zone": "UTC"})
    camera = Camera(settings, lambda *_: None)
    released = []
    frame = Frame("door", PICTURE, 0, WALL, 1.0, picture_size=(640, 200), release=lambda: released.append(1))
    camera.pending.append(frame)
    drop_outside_hours([camera], datetime.datetime.now().timestamp())
    assert (len(camera.pending), camera.counters.dropped["hours"], released) == (0, 1, [1])
    box = Box(StreamSettings(cameras=(settings,)))
    box.watch("door", 0, 4, {0: 100})
    box.sightings.tick(box.began + 4)
    box.sightings.close()
    assert box.changes == ["started named door Ada", "ended hours door Ada"]


def test_new_zones_and_hours_leave_the_camera_running() -> None:
    plain = camera_of()
    hours = {"active": {"hours": ["mon 08:00-09:00"]}}
    for more in ({"zones": [RIGHT]}, {"lines": [GATE]}, hours, {"ignore": [[0, 0, 1, 1]]}):
        assert camera_of(**more) != plain
        assert camera_of(**more).same_source(plain)
        assert not camera_of(**more, rotate=90).same_source(plain)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("zones: [{name: a, polygon: [[0, 0], [1, 1]]}]", "at least 3"),
        ("zones: [{name: a, polygon: [[0, 0], [0.5, 0.5], [1, 1]]}]", "some area"),
        ("zones: [{name: a, polygon: [[0, 0], [1, 1], [1, 0], [0, 1]]}]", "cross"),
        ("zones: [{name: a, polygon: [[0, 0], [640, 0], [1, 1]]}]", "less than or equal to 1"),
        ("zones: [{name: a b, polygon: [[0, 0], [1, 0], [1, 1]]}]", "name"),
        ("zones: [{name: a, polygon: [[0, 0], [1, 0], [1, 1]], kind: forbidden}]", "kind"),
        ("lines: [{name: a, points: [[0.5, 0.5], [0.5, 0.5]]}]", "two different points"),
        (f"zones: [{CORNER}]\n    lines: [{{name: a, points: [[0, 0], [1, 1]]}}]", "'a' stands twice"),
        ("active: {hours: []}", "at least 1"),
        ("active: {hours: [always]}", "mon-fri 08:00-18:00"),
        ("active: {hours: ['mon- 08:00-18:00']}", "mon-fri"),
        ("active: {hours: ['mon 08:00-25:00']}", "24:00"),
        ("active: {hours: ['mon 08:00-08:00']}", "differs"),
        ("active: {hours: ['mon 08:00-18:00'], time_zone: Europe}", "unknown time zone"),
        ("active: {hours: ['mon 08:00-18:00'], time_zone: Mars/Base}", "unknown time zone"),
        ("active: {hours: ['mon 08:00-18:00'], time_zone: ../etc/passwd}", "unknown time zone"),
    ],
)
def test_wrong_zones_and_hours_are_explained_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    cams = tmp_path / "cams.yaml"
    cams.write_text(f"cameras:\n  - name: door\n    url: a.avi\n    {text}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(cams, StreamSettings)
    assert f"{cams}:" in str(caught.value)


def test_zones_are_drawn_on_a_still(tmp_path: Path) -> None:
    cams = tmp_path / "cams.yaml"
    cams.write_text(
        "cameras:\n  - name: door\n    url: synthetic://street?seed=1&width=320&height=192\n    rotate: 90\n"
        "    zones: [{name: till, polygon: [[0.0, 0.5], [1, 0.5], [1, 1], [0, 1]]}]\n"
        "    lines: [{name: gate, points: [[0.1, 0.2], [0.9, 0.2]]}]\n    ignore: [[0.1, 0.1, 0.2, 0.2]]\n"
    )
    drawn = run("runtime/draw_zones.py", "--cams", cams, "--out", tmp_path / "z.png")
    assert drawn.returncode == 0, drawn.stderr
    assert "1 zones, 1 lines, 1 ignored boxes" in drawn.stdout
    assert cv2.imread(str(tmp_path / "z.png")).shape == (320, 192, 3)
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), np.zeros((192, 320, 3), np.uint8))
    options = ("--cams", cams, "--still", still, "--out", tmp_path / "b.png")
    assert call("runtime/draw_zones.py", *options).returncode == 0
    image = cv2.imread(str(tmp_path / "b.png"))
    assert image[260, 60].tolist() != [0, 0, 0]  # in the zone, between the lines of the grid
    assert image[110, 150].tolist() == [0, 0, 0]
    assert_user_error(call("runtime/draw_zones.py", "--cams", cams, "--camera", "yard"), "yard", "door")
    assert_user_error(call("runtime/draw_zones.py", "--cams", cams, "--still", tmp_path / "no.png"), "no.png")
    cams.write_text("cameras:\n  - {name: a, url: none.avi}\n")
    assert_user_error(call("runtime/draw_zones.py", "--cams", cams), "none.avi", "--still")
