"""Recording: what is in the files, what may happen to the disk meanwhile, and that nothing waits for it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import wait_for
from stays import IMAGE, WALL, AChange, ASighting, AStay, frame, open_recorder

from personsearch.core.errors import UserError
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.decisions.evidence import Decision
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.recording import tape as tape_module
from personsearch.runtime.recording.files import forget_person, name_of, rotate
from personsearch.runtime.recording.recorder import Recorder
from personsearch.runtime.recording.video_file import VideoFile

ADA = "p-aaaaaaaaaaaa"


def track(number: int, box: list[int]) -> Track:
    return Track(number, np.array(box, np.float32), 0.9, 0.0, 0.0, 0, np.zeros((5, 4)), confirmed=True)


def pictures(path: Path) -> list[np.ndarray]:
    reader, found = cv2.VideoCapture(str(path)), []
    while True:
        done, image = reader.read()
        if not done:
            return found
        found.append(image)


def settled(recorder: Recorder) -> None:
    wait_for(lambda: not recorder._bytes and not recorder._jobs, 30)


def see(recorder: Recorder, sighting: ASighting, numbers: range, seen: range, camera: str = "door") -> None:
    """A sighting's frames as a stream gives them: first the change, then the frame."""
    for number in numbers:
        stay = sighting.stays[-1] if sighting.stays else None
        if number in seen:
            if stay is None or stay.camera != camera:
                sighting.stays.append(AStay(camera, WALL + number / 10, WALL + number / 10))
                change = "updated" if stay else "started"
                recorder.on_change(AChange(sighting, change, camera, frame(number, camera), "named"))
            sighting.stays[-1].ended = WALL + number / 10
        recorder.write(frame(number, camera), [], [])


def test_everything_is_recorded_and_plays_while_it_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape_module, "SAY_AFTER_S", 2.0)
    recorder = open_recorder(tmp_path)
    for number in range(35):
        for camera in ("door", "yard"):
            recorder.write(frame(number, camera), [], [])
    settled(recorder)
    (path,) = tmp_path.glob("door.*.mp4")
    assert len(pictures(path)) >= 20  # the last second, and the fragment before it, may be missing
    recorder.close()
    shown = pictures(path)
    assert len(shown) == 35
    assert all(np.abs(picture.astype(int) - IMAGE).mean() < 12 for picture in shown)
    assert path.stat().st_size < 0.2 * 35 * cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].size
    assert caplog.text.count("GB an hour") == 2  # one a camera
    assert path.stat().st_mode & 0o077 == 0
    assert recorder.left_out == 0
    assert path.name == "door.20260921T141320Z.mp4"


def test_no_other_runs_files_are_overwritten(tmp_path: Path) -> None:
    recorders = [open_recorder(tmp_path) for _ in range(3)]  # at once, and of one camera
    for recorder in recorders:
        recorder.write(frame(0), [], [])
        recorder.close()
    assert [len(pictures(path)) for path in tmp_path.glob("door.*.mp4")] == [1, 1, 1]


def test_a_long_video_goes_on_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "SEGMENT_S", 1.0)
    recorder = open_recorder(tmp_path)
    for number in range(22):
        recorder.write(frame(number), [], [])
    recorder.close()
    assert [len(pictures(path)) for path in sorted(tmp_path.glob("*.mp4"))] == [11, 11]


def test_a_camera_with_another_source_goes_on_in_another_file(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path)
    for number in (*range(50, 55), *range(8)):
        recorder.write(frame(number), [], [])
    recorder.close()
    assert sorted(len(pictures(path)) for path in tmp_path.glob("*.mp4")) == [5, 8]


def test_a_folder_that_cannot_be_written_never_ends_the_watching(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "rec"
    recorder = open_recorder(folder)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    for number in range(20):
        recorder.write(frame(number), [], [])
    settled(recorder)
    assert recorder.left_out == 20
    assert caplog.text.count("recording door: cannot be written") == 1
    recorder.close()
    with pytest.raises(UserError, match="cannot record there"):
        open_recorder(Path("/proc/none"))


def test_recording_pauses_while_the_disk_is_low(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, min_free_mb=1e12)
    recorder.write(frame(0), [], [])
    assert recorder.paused
    recorder.close()
    assert recorder.left_out == 1
    assert not list(tmp_path.iterdir())


def test_a_slow_disk_holds_up_nothing_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personsearch.runtime.recording.recorder.MOST_BYTES", 5 * IMAGE.nbytes)
    slow = tape_module.Tape.add

    def add(tape: tape_module.Tape, shot: tape_module.Shot) -> None:
        time.sleep(0.3)
        slow(tape, shot)

    monkeypatch.setattr(tape_module.Tape, "add", add)
    recorder = open_recorder(tmp_path)
    began = time.monotonic()
    for number in range(50):
        recorder.write(frame(number), [], [])
    assert time.monotonic() - began < 5  # one after the other: 15 s
    recorder.close()
    assert recorder.left_out >= 40
    (path,) = tmp_path.glob("*.mp4")
    assert len(pictures(path)) == 50 - recorder.left_out


WRITER = """
import sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from pathlib import Path
from stays import frame, open_recorder
import time
recorder = open_recorder(Path(sys.argv[1]))
for number in range(100_000):
    recorder.write(frame(number), [], [])
    time.sleep(0.005)
"""


def test_what_a_killed_stream_recorded_plays(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parent
    command = [sys.executable, "-c", WRITER, tmp_path, tests, tests.parent]
    with subprocess.Popen(command, cwd=REPOSITORY) as writer:
        wait_for(lambda: sum(p.stat().st_size for p in tmp_path.glob("*.mp4")) > 60_000, 60)
        os.kill(writer.pid, signal.SIGKILL)
    (path,) = tmp_path.glob("door.*.mp4")
    assert len(pictures(path)) >= 10


# --- clips of sightings -----------------------------------------------------------------------------------------------


def test_a_clip_begins_before_its_sighting_and_ends_after_it(tmp_path: Path) -> None:
    recorder, sighting = open_recorder(tmp_path, "sightings"), ASighting(person_id=None)
    see(recorder, sighting, range(200), range(80, 111))
    sighting.person_id = ADA
    recorder.on_change(AChange(sighting, "updated", "door", frame(199), "named"))
    recorder.on_change(AChange(sighting, "ended", "door"))
    recorder.close()
    (path,) = tmp_path.glob("*.mp4")
    assert path.name == f"{name_of('door', WALL + 5, sighting.id)}.mp4"
    assert len(pictures(path)) == 91  # 3 s before, 3.0 s of the visit and 3 s after it, at 10 a second
    note = json.loads(path.with_suffix(".json").read_text())
    assert note == {
        "sighting": sighting.id, "person": ADA, "camera": "door", "since": WALL + 5, "until": WALL + 14,
    }  # fmt: skip
    assert recorder.left_out == 0


def test_nothing_is_kept_without_a_sighting(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, "sightings")
    for number in range(60):
        recorder.write(frame(number), [], [])
    recorder.close()
    assert not list(tmp_path.iterdir())


def test_somebody_who_comes_back_within_the_sighting_goes_on_in_its_clip(tmp_path: Path) -> None:
    recorder, sighting = open_recorder(tmp_path, "sightings", before_s=1, after_s=1), ASighting()
    see(recorder, sighting, range(100), range(20, 31))
    see(recorder, sighting, range(100, 140), range(110, 121))
    recorder.on_change(AChange(sighting, "ended", "door"))
    recorder.close()
    (path,) = tmp_path.glob("*.mp4")
    assert len(pictures(path)) == 31 + 31  # 1.0 to 4.0 and 10.0 to 13.0 s
    reader = cv2.VideoCapture(str(path))
    for _ in range(62):
        reader.grab()
    assert reader.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(12_000, abs=150)  # the pause is in it


def test_a_sighting_has_a_clip_in_each_camera_and_a_camera_may_be_gone(tmp_path: Path) -> None:
    recorder, sighting = open_recorder(tmp_path, "sightings", before_s=0.5), ASighting()
    see(recorder, sighting, range(20), range(10, 20), "door")  # which gives no frame any more
    see(recorder, sighting, range(20, 60), range(30, 41), "yard")
    settled(recorder)
    recorder.on_change(AChange(sighting, "ended", "door"))
    wait_for(lambda: all(not tape.clips for tape in recorder._tapes.values()), 20)  # without a further frame
    found = {path.name.partition(".")[0]: len(pictures(path)) for path in tmp_path.glob("*.mp4")}
    assert found == {"door": 15, "yard": 35}
    recorder.close()


def test_a_snapshot_of_a_sighting_is_replaced_by_a_better_one(tmp_path: Path) -> None:
    recorder, sighting = open_recorder(tmp_path, "sightings", snapshots=True), ASighting(person_id=ADA)
    see(recorder, sighting, range(5), range(2, 5))
    brighter = np.full_like(IMAGE, 250)
    recorder.on_change(AChange(sighting, "updated", "door", frame(5), "better"))
    recorder.write(frame(5, image=brighter), [], [])
    recorder.on_change(AChange(sighting, "updated", "door", frame(6), "zone"))
    recorder.write(frame(6), [], [])
    recorder.close()
    (path,) = tmp_path.glob("*.jpg")
    assert cv2.imread(str(path)).mean() > 245
    assert json.loads(path.with_suffix(".json").read_text())["person"] == ADA


# --- privacy ----------------------------------------------------------------------------------------------------------

MATCHED, STRANGER = [40, 40, 120, 220], [300, 40, 380, 220]


@pytest.mark.parametrize("mode", ["all", "sightings"])
def test_whoever_is_no_match_is_hidden(tmp_path: Path, mode: str) -> None:
    recorder, sighting = open_recorder(tmp_path, mode, blur=True, snapshots=True, before_s=1), ASighting(stays=[])
    for number in range(20):
        people = [track(1, MATCHED), track(2, STRANGER)]
        matches = [Match(people[0], "Ada", Decision("recognised", "Ada", 0.8))] if number >= 5 else []
        if number == 5:
            sighting.stays.append(AStay("door", WALL, WALL))
            recorder.on_change(AChange(sighting, "started", "door", frame(number), "named"))
        seen = people[:1] if number == 10 else people  # the detector has missed the stranger here
        recorder.write(frame(number), seen, matches)
    recorder.close()
    (path,) = tmp_path.glob("*.mp4")
    shown = pictures(path)
    assert len(shown) == 20
    if mode == "sightings":
        shown.append(cv2.imread(str(next(tmp_path.glob("*.jpg")))))
    for number, picture in enumerate(shown):
        assert changed(picture, STRANGER) > 40, number
        if mode == "sightings" or number >= 5:  # before the match, everything knows her as little as anybody
            assert changed(picture, MATCHED) < 15, number


def changed(picture: np.ndarray, box: list[int]) -> float:
    """Mean difference from the scene inside a box, without its drawn edge."""
    x1, y1, x2, y2 = box
    inside = np.s_[y1 + 20 : y2 - 5, x1 + 5 : x2 - 5]
    return float(np.abs(picture[inside].astype(int) - IMAGE[inside]).mean())


def test_forgetting_a_person_removes_the_clips(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, "sightings", snapshots=True)
    sightings = [ASighting(person_id=ADA), ASighting(person_id="p-bbbbbbbbbbbb")]
    for sighting in sightings:
        see(recorder, sighting, range(5), range(2, 5))
        recorder.on_change(AChange(sighting, "ended", "door"))
    recorder.close()
    assert forget_person(tmp_path, ADA) == 1
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 3
    assert all(sightings[1].id in name for name in left)
    assert forget_person(tmp_path / "none", ADA) == 0


def test_files_are_rotated_by_age_and_size_but_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = VideoFile(tmp_path / f"{name_of('door', WALL)}.mp4", (480, 270))
    for number in range(4):
        written.write(IMAGE, number)
    names = [f"{name_of('door', WALL + n, 's-00ff')}.{ending}" for n in range(5) for ending in ("mp4", "json")]
    for age, name in enumerate([*names, "holiday.mp4", "door.20260101T000000Z.mp4.part"]):
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (time.time() - 3600 * age,) * 2)
    os.utime(written.path, (0, 0))
    with monkeypatch.context() as begun:
        begun.setattr("time.time", lambda: 60.0)  # a machine without a battery, before the network told it the time
        assert rotate(tmp_path, 8.5 * 3600, 1e9) == 0
    assert rotate(tmp_path, 8.5 * 3600, 1e9) == 1
    assert rotate(tmp_path, 1e9, written.written + 4500) == 5
    assert {p.name for p in tmp_path.glob("door*Z.s*")} == set(names[:4])
    assert (tmp_path / "holiday.mp4").exists()
    assert written.path.exists()
    written.close()
    os.utime(written.path, (0, 0))
    assert rotate(tmp_path, 1e9, 4500) == 1
    assert rotate(tmp_path, 1e9, 0) == 4
    assert len(list(tmp_path.iterdir())) == 2
