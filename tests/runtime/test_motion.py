"""Frames in which nothing moves are left out; nobody is lost by it."""

import itertools
import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Tracker, TrackingSettings
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.motion import AFTER_S, MotionDetector, MotionGate, within
from personsearch.runtime.settings import SchedulingSettings

RNG = np.random.default_rng(5)
STREET = cv2.normalize(cv2.GaussianBlur(RNG.normal(0, 9, (180, 320, 3)), (0, 0), 3), None, 40, 220, cv2.NORM_MINMAX)
NOISE = [RNG.normal(0, 1, STREET.shape).astype(np.float32) for _ in range(7)]
turns = itertools.cycle(NOISE)


def picture(person: tuple[int, int, int, int] | None = None, light: float = 1.0, noise: float = 3.0) -> np.ndarray:
    image = STREET.astype(np.float32) * np.float32(light)
    if person:
        x, y, w, h = person
        image[y : y + h, x : x + w] = (30, 30, 90)
    return np.clip(image + np.float32(noise) * next(turns), 0, 255).astype(np.uint8)


def settled(ignored: tuple = ()) -> MotionDetector:
    detector = MotionDetector(ignored)
    for number in range(30):
        detector.see(picture(), number / 10)
    return detector


def gate(**options: object) -> MotionGate:
    made = MotionGate({"name": "", "ignore": (), "region": None, **options})
    made.on = True
    return made


def test_the_first_frame_is_new_and_noise_is_no_motion() -> None:
    detector = MotionDetector()
    assert detector.see(picture(), 0.0) == "new"
    assert [detector.see(picture(noise=4), n / 10) for n in range(1, 40)] == ["still"] * 39


@pytest.mark.parametrize("size", [(4, 12), (20, 60)])
def test_a_person_near_or_far_moves(size: tuple[int, int]) -> None:
    assert settled().see(picture((150, 100, *size)), 3.0) == "moving"


def test_slowly_changing_light_is_no_motion_and_a_jump_is_a_new_scene() -> None:
    detector = settled()
    assert {detector.see(picture(light=1 + 0.002 * n), 3 + n / 10) for n in range(30)} == {"still"}
    assert detector.see(picture(light=0.6), 6.0) == "new"
    assert detector.see(picture(light=0.6), 6.1) == "still"
    assert detector.see(255 - picture(light=0.6), 6.2) == "new"  # another scene
    assert detector.see(picture()[:90], 6.3) == "new"  # another size


def test_leaves_become_noise() -> None:
    detector = settled()
    verdicts = []
    for number in range(400):
        image = picture()
        swung = 25 * np.sin(number * 1.7)
        image[10:30, 10:40] = np.clip(image[10:30, 10:40] + swung, 0, 255)
        verdicts.append(detector.see(image, 3 + number / 10))
    assert "moving" in verdicts[:20]
    assert verdicts[-50:].count("moving") <= 5


def test_where_somebody_stood_for_long_is_no_motion_for_long_once_he_has_gone() -> None:
    detector = settled()
    for number in range(900):
        detector.see(picture((150, 50, 20, 60)), 3 + number / 10)
    gone = [detector.see(picture(), 93 + number / 10) for number in range(200)]
    assert gone[:10] == ["moving"] * 10
    assert gone[100:] == ["still"] * 100  # the background needs thirty seconds
    assert detector.see(picture((40, 50, 20, 60)), 113.0) == "moving"


def test_whoever_walks_slowly_past_the_same_place_moves_all_the_time() -> None:
    detector = settled()
    verdicts = [detector.see(picture((60 + number, 50, 12, 36)), 3 + number / 10) for number in range(100)]
    assert verdicts == ["moving"] * 100


def test_ignored_zones_do_not_count_even_within_a_region() -> None:
    zones = within([(0.5, 0.5, 0.5, 0.5)], (0.0, 0.5, 1.0, 0.5))
    assert zones == [(0.5, 0.0, 0.5, 1.0)]
    detector = settled(tuple(zones))
    assert detector.see(picture((250, 50, 20, 60)), 3.0) == "still"
    assert detector.see(picture((50, 50, 20, 60)), 3.1) == "moving"


def test_the_gate_opens_for_motion_for_a_look_and_while_somebody_is_followed() -> None:
    camera = gate()
    opened = {n / 10: camera.look for n in range(100) if camera.opens(picture(), n / 10)}
    assert [m for m in opened if m <= AFTER_S] == [n / 10 for n in range(int(10 * AFTER_S) + 1)]
    assert [m for m in opened if m > AFTER_S] == [m for m, look in opened.items() if look] == [4.0, 6.0, 8.0]
    assert camera.opens(picture((150, 100, 10, 30)), 9.9)
    assert not camera.look
    camera.watch_every_s = 0.0
    assert all(camera.opens(picture(), 10 + n / 10) for n in range(100))
    camera.watch_every_s = math.inf
    assert not camera.opens(picture(), 20.0)
    camera.on = False
    assert camera.opens(picture(), 20.1)


def test_people_who_do_not_move_are_watched_now_and_then_and_at_once_when_they_do() -> None:
    camera, person = gate(), (150, 100, 10, 30)
    assert all(camera.opens(picture(person), n / 10) for n in range(21))
    camera.watch_every_s = 0.5
    opened = [n for n in range(21, 100) if camera.opens(picture(person), n / 10)]
    assert opened == list(range(25, 100, 5))
    assert not camera.look
    assert not camera.quiet(10.0)
    assert all(camera.opens(picture((150 + 2 * n, 100, 10, 30)), 10 + n / 10) for n in range(5, 15))


def test_cameras_that_become_still_together_are_not_looked_at_together() -> None:
    def looks(name: str) -> list[float]:
        camera = gate(name=name)
        return [n / 10 for n in range(80) if camera.opens(picture(), n / 10) and camera.look]

    firsts = {name: looks(name)[0] for name in "abcdef"}
    assert len(set(firsts.values())) >= 4
    assert all(AFTER_S < first <= AFTER_S + 2.0 for first in firsts.values())  # no later than anybody's,
    assert all(np.diff(looks(name)) == pytest.approx(2.0, abs=0.11) for name in "abcdef")  # and no more often after it


def test_the_tracker_follows_whoever_was_seen_lately() -> None:
    tracker = Tracker(TrackingSettings(), 0.3)
    nobody = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 0)))
    assert not tracker.following
    tracker.update(Detections(np.array([[10, 10, 50, 130]]), np.array([0.9]), np.zeros((1, 0))), 0.0)
    assert tracker.following
    tracker.update(nobody, 1.0)
    assert tracker.following  # hidden for a moment
    tracker.update(nobody, 2.0)
    assert not tracker.following


def test_whoever_has_been_followed_for_some_time_and_is_in_sight_is_settled() -> None:
    def person(x: float) -> list[float]:
        return [x, 10, x + 40, 130]

    def people(*boxes: list[float]) -> Detections:
        return Detections(np.array(boxes).reshape(-1, 4), np.full(len(boxes), 0.9), np.zeros((len(boxes), 0)))

    tracker = Tracker(TrackingSettings(), 0.3)
    states = []
    for n in range(25):
        tracker.update(people(person(10)), n / 10)
        states.append(tracker.settled)
    assert states == [False] * 20 + [True] * 5
    tracker.update(people(), 2.5)
    assert not tracker.settled  # hidden: the next frame may show him
    tracker.update(people(person(10)), 2.6)
    assert tracker.settled
    tracker.update(people(person(10), person(300)), 2.7)
    assert not tracker.settled  # somebody has come
    for n in range(28, 48):
        tracker.update(people(person(10), person(300)), n / 10)
    assert tracker.settled


def still_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 180))
    for _ in range(frames):
        writer.write(picture(noise=1))
    writer.release()


def test_a_camera_leaves_still_frames_out_counts_them_and_stays_online(tmp_path: Path) -> None:
    still_video(tmp_path / "still.avi", 100)
    told: list[str] = []
    camera = Camera(
        CameraSettings(name="yard", url=str(tmp_path / "still.avi"), read_timeout_s=5),
        lambda _camera, state, _cause, _reason: told.append(state),
    )
    limit = time.monotonic() + 60
    try:
        while not camera.done and time.monotonic() < limit:
            now = time.monotonic()
            camera.tick(now)
            camera.leave_out_still(SchedulingSettings(motion=True, look_every_s=30), math.inf)
            camera.read()
            while camera.pending:
                camera.pending.popleft().release()
                camera.counters.analysed += 1
            time.sleep(0.01)
    finally:
        camera.stop()
    counters = camera.counters
    assert told == ["online", "ended"], camera.reason
    assert counters.dropped["still"] > 30  # the first two seconds are looked at
    assert counters.captured == 100 == counters.analysed + sum(counters.dropped.values())
