"""Counting names by person, visit and track on hand-made events; the places; and the whole way with real programs."""

import json
from pathlib import Path

import cv2
import names_across
import numpy as np
import pytest
from conftest import REPOSITORY, run
from crop_video import FPS, WALK_S, write_crop_video
from names_across import count, override, visits_of
from places import Place, of_frames, of_street

from personsearch.core.errors import UserError
from personsearch.core.street.people import sprite
from personsearch.train.data.crops import load_crops

BOXES = np.array([[0, 0, 50, 100], [200, 0, 250, 100]], np.float32)


def said(index: int, track: int, name: int, left: float = 0.0, camera: str = "second") -> dict:
    box = {"x": left, "y": 0.0, "w": 50.0, "h": 100.0}
    return {"camera": camera, "frame": {"index": index}, "track": track, "person": f"P{name}", "bounding_box": box}


def place(frames: int, people: list[int], skip: range = range(0)) -> Place:
    """People stand at the two boxes at 10 frames a second, away during `skip`."""
    there = (BOXES[: len(people)], np.array(people, np.int64))
    gone = (BOXES[:0], np.zeros(0, np.int64))
    return Place("", 10.0, {i: gone if i in skip else there for i in range(frames)})


def test_an_empty_place_and_no_events_count_nothing() -> None:
    nothing = count([], Place("", 10.0, {}), set())
    assert set(nothing["people"].values()) == {0}
    assert nothing["seconds until the first right name"] == {"visits": 0, "median": None, "p95": None}
    silent = count([], place(5, [1, 2]), {1})
    assert silent["people"] == {
        "enrolled": 1, "named right": 0, "named wrong": 0, "strangers": 1, "strangers named": 0,
    }  # fmt: skip
    assert visits_of([], 10.0) == []


def test_names_count_by_person_visit_and_track() -> None:
    events = [said(5, 1, 1), said(6, 1, 1), said(40, 7, 3), said(6, 2, 3, left=200.0)]
    figures = count(events, place(60, [1, 2], skip=range(10, 32)), {1, 3})
    assert figures["people"] == {
        "enrolled": 1, "named right": 1, "named wrong": 1, "strangers": 1, "strangers named": 1,
    }  # fmt: skip
    assert figures["visits"] == {
        "enrolled": 2, "named right": 1, "named wrong": 1, "strangers": 2, "strangers named": 1,
    }  # fmt: skip
    assert figures["tracks"] == {"named": 3, "right": 1, "wrong": 1, "strangers": 1, "nobody annotated": 0}
    assert figures["seconds until the first right name"] == {"visits": 1, "median": 0.5, "p95": 0.5}


def test_a_short_absence_is_one_visit() -> None:
    assert visits_of([0, 1, 2, 22], 10.0) == [(0, 22)]
    assert visits_of([0, 1, 2, 23], 10.0) == [(0, 2), (23, 23)]


def test_other_cameras_and_frames_without_truth_do_not_count() -> None:
    scene = place(5, [1, -1])
    events = [said(2, 1, 1, camera="first"), said(9, 1, 1), said(2, 3, 1, left=120.0), said(3, 4, 1, left=200.0)]
    figures = count(events, scene, {1})
    assert figures["people"]["named right"] == 0
    assert figures["tracks"] == {"named": 2, "right": 0, "wrong": 0, "strangers": 0, "nobody annotated": 2}


def test_a_track_is_what_most_of_its_names_are() -> None:
    events = [said(1, 1, 1), said(2, 1, 1), said(3, 1, 1, left=200.0)]
    assert count(events, place(5, [1, 2]), {1})["tracks"]["right"] == 1


def test_settings_are_changed_by_key() -> None:
    settings: dict = {"match": {"repeat_s": 0}}
    override(settings, "match.threshold=0.5")
    override(settings, "tracking.lost_after_s=3")
    assert settings == {"match": {"repeat_s": 0, "threshold": 0.5}, "tracking": {"lost_after_s": 3}}
    for bad in ("match.threshold", "match.=1"):
        with pytest.raises(UserError, match="KEY=VALUE"):
            override(settings, bad)


def crops(root: Path, people: int) -> Path:
    for person in range(people):
        for camera, shade in ((1, 90), (2, 150)):
            for view, look in enumerate(("front", "side"), start=1):
                colour, mask = sprite(5, person, look, 0)
                path = root / f"{person:03d}" / f"{camera}_{view}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.where(mask[..., None] > 127, colour, shade).astype(np.uint8))
    return root


def test_a_crop_video_shows_everybody_once_where_the_truth_says(tmp_path: Path) -> None:
    cut = load_crops(crops(tmp_path / "crops", 6))
    numbers = {f"{person:03d}": person for person in range(6)}
    truths = write_crop_video(tmp_path / "a.avi", cut, "2", numbers, seed=3)
    seen = {person: [i for i, t in enumerate(truths) if person in t.identities] for person in range(6)}
    for frames in seen.values():
        assert len(frames) == frames[-1] - frames[0] + 1  # in one go
        assert 0.7 * WALK_S * FPS <= len(frames) <= WALK_S * FPS
    capture = cv2.VideoCapture(str(tmp_path / "a.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(truths)
    empty, busy = (next(i for i, t in enumerate(truths) if len(t.boxes) == n) for n in (0, 1))
    capture.set(cv2.CAP_PROP_POS_FRAMES, busy)
    with_person = capture.read()[1].astype(int)
    capture.set(cv2.CAP_PROP_POS_FRAMES, empty)
    changed = np.abs(with_person - capture.read()[1].astype(int)).max(2) > 40
    x1, y1, x2, y2 = truths[busy].boxes[0].astype(int)
    assert changed[y1:y2, x1:x2].mean() > 0.3
    changed[y1:y2, x1:x2] = False
    assert changed.mean() < 0.01
    with pytest.raises(UserError, match="there are: 1, 2"):
        write_crop_video(tmp_path / "a.avi", cut, "9", numbers, seed=3)


def test_a_street_has_people_who_are_in_both_cameras(tmp_path: Path) -> None:
    first, second = of_street(3, tmp_path, frames=250)
    both = set(first.pictures) & set(second.people)
    assert len(both) >= 2
    for person in both:
        for picture in first.pictures[person]:
            assert Path(picture.path).is_file()
            assert picture.box[3] - picture.box[1] >= 100


def test_missing_cameras_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["names_across.py", "--crops", str(tmp_path)])
    assert names_across.main() == 2
    assert "error: --cameras ENROL STREAM" in capsys.readouterr().err


@pytest.mark.slow
def test_an_enrolled_person_is_named_in_the_other_camera_by_the_real_programs(tmp_path: Path, shared: Path) -> None:
    """Real people's pictures: detected, followed, described and named from end to end; the threshold lets all pass."""
    views = shared / "data" / "cross-camera" / "views"
    (tmp_path / "three").mkdir()
    for person in sorted(views.iterdir())[:3]:
        (tmp_path / "three" / person.name).symlink_to(person)
    result = run(
        "tests/names_across.py", "--crops", tmp_path / "three", "--cameras", "01", "02", "--views", 1,
        "--bundle", REPOSITORY / "models" / "edge", "--set", "match.threshold=0", "--json", tmp_path / "a.json",
        timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["people"]["enrolled"] == figures["people"]["named right"] == 1
    assert figures["people"]["strangers"] == 2
    assert figures["tracks"]["all"] >= 3
    assert figures["tracks"]["right"] >= 1
    assert 0 <= figures["seconds until the first right name"]["median"] < WALK_S


def test_one_annotated_camera_is_split_in_time(tmp_path: Path, shared: Path) -> None:
    root = shared / "data" / "people-mot"
    first, second = of_frames(root, ["2", "2"], 0.5, tmp_path)
    frames = [cv2.VideoCapture(p.url).get(cv2.CAP_PROP_FRAME_COUNT) for p in (first, second)]
    assert frames == [len(first.truths), len(second.truths)]
    both = set(first.pictures) & set(second.people)
    assert len(both) >= 2
    for person in both:
        assert len(first.pictures[person]) == 4
        assert all(Path(picture.path).is_file() for picture in first.pictures[person])
    for cameras, split in ((["2", "2"], 0.0), (["1", "2"], 0.5)):
        with pytest.raises(UserError, match="--split"):
            of_frames(root, cameras, split, tmp_path)
    with pytest.raises(UserError, match="no frame of camera 9"):
        of_frames(root, ["9", "2"], 0.0, tmp_path)
