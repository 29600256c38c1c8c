"""Tracks of different cameras become one person, by looks less their camera's mean and by time."""

import numpy as np
import pytest
from conftest import assert_user_error, call

from personsearch.core.errors import UserError
from personsearch.core.evaluation import Run
from personsearch.core.records import Detections, ImageTruth, Query
from personsearch.train.adapt import travel_time
from personsearch.train.teaching.across import CameraTrack, centred, centred_run, link_cameras

SHIFT = {1: np.array([0.0, 0, 0, 0, 3.0]), 2: np.array([0.0, 0, 3.0, 0, -1.0])}  # what each camera does to all looks


def track(camera: int, look: np.ndarray, *spans: tuple[float, float]) -> CameraTrack:
    moved = look + SHIFT[camera]
    return CameraTrack(camera, np.array(spans or [(0.0, 1.0)]), moved / np.linalg.norm(moved))


def people(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, 5)))


def test_nobody_and_one_camera_have_nothing_to_link() -> None:
    assert link_cameras([]) == []
    assert link_cameras([track(1, p) for p in people(3)]) == [0, 1, 2]


def test_cameras_that_shift_all_looks_are_seen_through() -> None:
    looks = people(6)
    tracks = [track(1, p, (9 * i, 9 * i + 5)) for i, p in enumerate(looks)]
    tracks += [track(2, p, (9 * i, 9 * i + 5)) for i, p in enumerate(looks[::-1])]
    plain = np.stack([t.look for t in tracks])
    assert ((plain @ plain.T)[:6, 6:].argmax(1) != np.arange(6)[::-1]).any()  # as they come, the nearest are wrong
    assert link_cameras(tracks) == [*range(6), *range(6)[::-1]]


def test_only_mutual_neighbours_are_linked() -> None:
    looks = people(5)
    near = [*looks, looks[0] + 0.05]  # two of camera 1 look like one of camera 2: at most one is she
    tracks = [track(1, p, (9 * i, 9 * i + 5)) for i, p in enumerate(near)] + [track(2, p) for p in looks]
    found = link_cameras(tracks)
    assert len(set(found[:6])) == 6
    assert found[7:] == [1, 2, 3, 4]


def test_strangers_stay_strangers() -> None:
    tracks = [CameraTrack(1 + i // 3, np.array([[0.0, 1.0]]), look) for i, look in enumerate(np.eye(6))]
    assert link_cameras(tracks) == list(range(6))


def test_travel_times_exclude_what_cannot_be() -> None:
    looks = people(4)
    one = [track(1, p, (10.0 * i, 10.0 * i + 5)) for i, p in enumerate(looks)]
    other = [track(2, p, (10.0 * i + 8, 10.0 * i + 9)) for i, p in enumerate(looks)]  # three seconds on the way
    assert link_cameras(one + other, {(1, 2): (2.0, 4.0)}) == [0, 1, 2, 3] * 2
    assert link_cameras(one + other, {(2, 1): (2.0, 4.0)}) == [0, 1, 2, 3] * 2  # the way takes as long back
    assert link_cameras(one + other, {(1, 2): (0.0, 0.5)}) == list(range(8))
    assert link_cameras(one + other, {(1, 3): (0.0, 1.0)}) == [0, 1, 2, 3] * 2  # nothing is said of 1 and 2


def test_nobody_is_twice_in_one_camera_at_once() -> None:
    looks, third = people(5), {3: SHIFT[1] * 0}
    SHIFT.update(third)
    first = [track(1, p, (9 * i, 9 * i + 5)) for i, p in enumerate(looks)]
    second = [track(2, p, (9 * i, 9 * i + 5)) for i, p in enumerate(looks)]
    again = [track(3, p, (9 * i, 9 * i + 5)) for i, p in enumerate(looks)]
    assert link_cameras(first + second + again) == [*range(5)] * 3  # one person over three cameras
    twin = CameraTrack(1, first[0].spans, first[0].look)
    owners = link_cameras([*first, twin, *second, *again])
    assert owners[0] != owners[5]


def test_small_cameras_keep_their_mean() -> None:
    looks = np.eye(4)[:2]
    assert np.allclose(centred(looks, np.array([1, 2])), looks)


def test_a_run_less_its_cameras_means_finds_people_in_the_other() -> None:
    rng = np.random.default_rng(1)
    looks, cameras = rng.normal(size=(4, 8)), (np.array([5.0] + [0] * 7), np.array([0] * 7 + [5.0]))
    truths, annotated, found, queries, asked = [], {}, {}, [], []
    for camera, shift in enumerate(cameras, start=1):
        boxes = np.array([[10.0 * i, 0, 10 * i + 8, 20] for i in range(4)], np.float32)
        rows = (looks + shift).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        name = f"c{camera}.jpg"
        truths.append(ImageTruth(name, "", boxes, np.arange(4), camera))
        annotated[name], found[name] = rows, Detections(boxes, np.ones(4), rows)
        queries.append(Query(name, boxes[0], 0))
        asked.append(rows[0])
    moved = centred_run(Run(found, annotated, np.array(asked)), truths, queries)
    for one, other in (("c1.jpg", "c2.jpg"), ("c2.jpg", "c1.jpg")):
        assert (moved.annotated[one] @ moved.annotated[other].T).argmax(1).tolist() == [0, 1, 2, 3]
        assert np.allclose(moved.found[one].embeddings, moved.annotated[one], atol=1e-6)
    assert moved.queries[0] == pytest.approx(moved.annotated["c1.jpg"][0])
    empty = Run({}, {}, np.zeros((0, 8), np.float32))
    assert centred_run(empty, [], []).queries.shape == (0, 8)


def test_travel_times_on_the_command_line() -> None:
    assert travel_time("1:2:5-30", 2) == ((1, 2), (5.0, 30.0))
    assert travel_time("3:1:0.5-2", 3) == ((3, 1), (0.5, 2.0))
    for wrong in ("1:2", "1:1:5-30", "0:1:5-30", "1:3:5-30", "1:2:30-5", "a:b:1-2", "1:2:-1-2"):
        with pytest.raises(UserError, match="expected A:B:LEAST-MOST"):
            travel_time(wrong, 2)
    assert_user_error(call("train/adapt.py", "--video", "a.avi", "--across"), "at least two sources")
    assert_user_error(call("train/adapt.py", "--video", "a.avi", "b.avi", "--travel", "1:2:1-2"), "--across as well")
