"""Local sources as they come: odd names, odd times, sequences, FIFOs, and files that hold nothing."""

import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import drive, picture, street_video, timed_video

from personsearch.core.errors import DataError
from personsearch.core.stream_clock import StreamClock
from personsearch.core.video_files import SourceError, find_file
from personsearch.core.videos import Video
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.sources import open_source

OPTIONS = {"open_timeout_s": 2.5, "read_timeout_s": 2.5, "transport": "tcp"}
Word = tuple[str, str, str]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator:  # type: ignore[type-arg]
    """Builds cameras whose states are kept in `words`."""
    monkeypatch.setattr("personsearch.runtime.cameras.camera.START_S", 120.0)  # on a busy machine
    made: list[Camera] = []

    def build(**given: object) -> Camera:
        words: list[Word] = []
        camera = Camera(CameraSettings.model_validate({"name": "c", **given}), lambda _c, *word: words.append(word))
        camera.words = words  # type: ignore[attr-defined]
        made.append(camera)
        return camera

    yield build
    for camera in made:
        camera.stop()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video file of four frames."""
    return timed_video(tmp_path_factory.mktemp("short") / "v.mp4", [0, 40, 80, 120]).read_bytes()


def frames_in(url: str) -> int:
    source = open_source({**OPTIONS, "url": url})
    count = 0
    while source.grab():
        count += source.retrieve() is not None
    source.close()
    return count


def test_training_and_enrolment_read_the_names_and_times_that_cameras_do(tmp_path: Path) -> None:
    timed_video(tmp_path / "100%20d 12:30.mkv", [0, 40, 500, 1500, 1540])
    for name in (f"{tmp_path}/100%20d 12:30.mkv", f"file://{tmp_path}/100%2520d%2012:30.mkv"):
        shown = list(Video(name).every(2))
        assert [p.number for p in shown] == [0, 2, 4]
        assert [round(p.seconds, 2) for p in shown] == [0, 0.5, 1.54]
    (tmp_path / "empty.mp4").touch()
    for name, word in ((f"{tmp_path}/empty.mp4", "empty"), (str(tmp_path), "folder"), ("none.mp4", "no such file")):
        with pytest.raises(DataError, match=word):
            Video(name)


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("12:30:05.mp4", "12:30:05.mp4"),
        ("12:30:05.mp4", "./12:30:05.mp4"),
        ("12:30:05.mp4", "{folder}/12:30:05.mp4"),
        ("rtsp:x.mp4", "./rtsp:x.mp4"),
        ("v.mp4", "~/v.mp4"),
        ("v.mp4", "file://~/v.mp4"),
        ("a b.mp4", "file://{folder}/a%20b.mp4"),
        ("a b.mp4", "File://{folder}/a b.mp4"),
        ("a b.mp4", "FILE:{folder}/a%20b.mp4"),
        ("a b.mp4", "file://localhost{folder}/a%20b.mp4"),
        ("a%20b.mp4", "file://{folder}/a%20b.mp4"),
        ("a%20b.mp4", "a%20b.mp4"),
        ("%03d.mp4", "%03d.mp4"),
        ("100%.mp4", "100%.mp4"),
        ("a#b?c=d&e.mp4", "a#b?c=d&e.mp4"),
        ("me@home.mp4", "me@home.mp4"),
        ("-v.mp4", "-v.mp4"),
        (" v .mp4", " v .mp4"),
        ("Überführung 東京.mp4", "Überführung 東京.mp4"),
        ("007.mp4", "007.mp4"),
        ("concat:v.mp4|w.mp4", "concat:v.mp4|w.mp4"),
    ],
)
def test_a_file_is_opened_whatever_its_name(
    short: bytes, name: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / name).write_bytes(short)
    assert frames_in(url.format(folder=tmp_path)) == 4


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_name_that_a_file_can_have_is_found(
    tmp_path_factory: pytest.TempPathFactory, short: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    if len(os.fsencode(name)) > 250 or name in (".", ".."):
        return
    (folder / name).write_bytes(short)
    assert frames_in(f"{folder}/{name}") == 4


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_a_name_that_is_not_there_is_explained_in_one_line(name: str) -> None:
    with pytest.raises(SourceError) as error:
        find_file(f"/nowhere/{name}")
    assert error.value.cause == "not_found"


def test_pictures_with_numbers_are_a_sequence(tmp_path: Path) -> None:
    folder = tmp_path / "100% of %d"
    folder.mkdir()
    for number in range(7, 12):
        cv2.imwrite(str(folder / f"x {number:03d}.jpg"), picture(number))
    assert frames_in(f"{folder}/x %03d.jpg") == 5
    assert frames_in(f"file://{folder.as_posix().replace(' ', '%20').replace('100%', '100%25')}/x%20%03d.jpg") == 5
    for url, word in (("x %04d.jpg", "no picture"), ("%d-%d.jpg", "one number"), ("", "%03d.jpg")):
        with pytest.raises(SourceError, match=word):
            find_file(f"{folder}/{url}")


def test_a_gap_in_numbered_pictures_is_told_at_its_end(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    for number in (1, 2, 3, 5, 6, 9):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), picture(number))
    camera = make(url=f"{tmp_path}/%d.jpg", pace="fast")
    assert len(drive(camera, lambda: camera.state == "ended")) == 3
    assert "picture 4 is missing" in camera.words[-1][2]
    assert Video(f"{tmp_path}/%d.jpg").gap == find_file(f"{tmp_path}/%d.jpg").gap != ""
    (tmp_path / "4.jpg").write_bytes((tmp_path / "3.jpg").read_bytes())
    assert "picture 7 is missing" in find_file(f"{tmp_path}/%d.jpg").gap


def test_what_is_no_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "dangling.mp4").symlink_to("none.mp4")
    cases = {"/dev/null": "device", str(tmp_path): "folder", f"{tmp_path}/empty.mp4": "holds no frame",
             f"{tmp_path}/dangling.mp4": "cannot be read", "x" * 300: "too long", "": "no such file"}  # fmt: skip
    for url, word in cases.items():
        with pytest.raises(SourceError, match=word) as error:
            find_file(url)
        assert "\n" not in str(error.value)


def test_what_a_writer_left_in_a_fifo_is_not_lost(make, tmp_path: Path) -> None:
    """A film that fits the pipe: its writer is gone before anybody decodes, and comes again."""
    os.mkfifo(tmp_path / "fifo")
    avi = street_video(tmp_path / "v.avi", frames=4).read_bytes()
    assert len(avi) < 65536
    camera = make(url=str(tmp_path / "fifo"), end="loop", pace="fast")
    for turn in (1, 2):
        began = time.monotonic()
        drive(camera, lambda began=began: camera.channel is not None and time.monotonic() - began > 1.5)
        with open(tmp_path / "fifo", "wb") as writer:
            writer.write(avi)
        drive(camera, lambda turn=turn: camera.counters.captured >= 4 * turn)
    assert camera.words == [("online", "", "")]


@pytest.mark.parametrize("pace", ["source", "fast"])
def test_a_fifo_is_read_when_somebody_writes(make, tmp_path: Path, pace: str) -> None:
    fifo, video = tmp_path / "fifo", street_video(tmp_path / "v.avi", frames=20)
    os.mkfifo(fifo)
    camera = make(url=str(fifo), pace=pace, read_timeout_s=1.0)
    began = time.monotonic()
    drive(camera, lambda: time.monotonic() - began > 3)  # nobody writes for longer than any timeout
    assert camera.words == []
    writer = subprocess.Popen(["cp", str(video), str(fifo)])
    frames = drive(camera, lambda: camera.done)
    writer.wait(10)
    assert [f.index for f in frames] == list(range(20))
    assert camera.words == [("online", "", ""), ("ended", "end", "")]


# --- times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pace", ["source", "fast"])
def test_variable_frame_rate_is_played_at_its_real_times(make, tmp_path: Path, pace: str) -> None:
    times = [0, 100, 200, 300, 400, 900, 1400, 1900]  # ten, then two frames a second
    camera = make(url=str(timed_video(tmp_path / "v.mp4", times)), pace=pace)
    frames = drive(camera, lambda: camera.done)
    assert [f.moment for f in frames] == pytest.approx([t / 1000 for t in times])
    played = [f.monotonic - frames[0].monotonic for f in frames]
    if pace == "source":
        assert played == pytest.approx([t / 1000 for t in times], abs=0.3)
    else:
        assert played[-1] < 1.9


def test_a_slow_file_is_not_taken_for_a_silent_one(make, tmp_path: Path) -> None:
    camera = make(url=str(timed_video(tmp_path / "v.mp4", [0, 1500, 3000])), read_timeout_s=0.4)
    frames = drive(camera, lambda: camera.done)
    assert [f.index for f in frames] == [0, 1, 2]
    assert camera.words == [("online", "", ""), ("ended", "end", "")]


def test_a_files_time_goes_on_over_loops_and_reopenings(make, tmp_path: Path) -> None:
    camera = make(url=str(timed_video(tmp_path / "v.mp4", [0, 40, 80, 120])), end="loop", pace="fast")
    frames = drive(camera, lambda: camera.counters.captured > 20)
    camera.process.kill()
    frames += drive(camera, lambda: camera.counters.opened > 8)
    moments = [f.moment for f in frames]
    assert all(0 < b - a < 0.5 for a, b in itertools.pairwise(moments))


def test_a_live_source_is_on_the_machines_clock(make) -> None:
    camera = make(url="synthetic://street?fps=20&frames=5&width=320&height=192")
    frames = drive(camera, lambda: camera.done)
    assert [f.moment for f in frames] == [f.monotonic for f in frames]


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(-10, 1e7), max_size=50), st.sampled_from([0.001, 0.04, 4.0]))
def test_the_clock_of_a_stream_strictly_grows_and_never_leaps(times: list[float | None], interval: float) -> None:
    clock, before, given_before = StreamClock(interval), -math.inf, 0.0
    for number, stream_s in enumerate(times):
        if number == 20:
            clock = StreamClock(interval, clock.moment)
        moment = clock.advance(stream_s)
        assert moment > before
        assert number == 0 or moment - before <= 3600 + 10 * interval + 1e-3
        if stream_s is not None and stream_s > given_before and number not in (0, 20) and moment == before:
            raise AssertionError
        before, given_before = moment, stream_s or 0.0


def test_true_times_are_kept_as_they_are() -> None:
    clock = StreamClock(0.04)
    assert [clock.advance(t) for t in (0.5, 0.6, 5.6)] == [0.5, 0.6, 5.6]
    clock.reopen(0.1)
    assert [clock.advance(t) for t in (0.0, 0.5)] == pytest.approx([5.7, 6.2])


# --- nothing to see -----------------------------------------------------------------------------------------------


def empty_video(path: Path) -> Path:
    """A file with a header, from which a decoder opens a stream without frames."""
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 192)).release()
    return path


@pytest.mark.parametrize(("end", "state"), [("stop", "ended"), ("loop", "offline")])
def test_a_file_without_frames_is_no_clean_end(make, tmp_path: Path, end: str, state: str) -> None:
    camera = make(url=str(empty_video(tmp_path / "v.avi")), end=end)
    drive(camera, lambda: camera.words)
    told_at = time.monotonic()
    drive(camera, lambda: time.monotonic() - told_at > 1)
    ((told, cause, reason),) = camera.words
    assert (told, cause) == (state, "codec")
    assert "holds no frame" in reason
    assert camera.counters.opened <= 6  # not a thousand times a second


@pytest.mark.parametrize("end", ["stop", "loop"])
def test_a_file_that_breaks_off_says_so(make, tmp_path: Path, end: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = street_video(tmp_path / "v.avi", frames=40).read_bytes()
    (tmp_path / "v.avi").write_bytes(whole[: len(whole) // 2])
    camera = make(url=str(tmp_path / "v.avi"), end=end, pace="fast")
    drive(camera, lambda: camera.done or camera.counters.captured > 60)
    said = camera.words[-1][2] if end == "stop" else caplog.text
    assert "before the announced 1.6 s" in said
    assert camera.words[0] == ("online", "", "")
    assert camera.words[-1][1] == ("end" if end == "stop" else "")


def test_a_whole_file_ends_without_a_word(make, tmp_path: Path) -> None:
    for name, times in (("even.mp4", list(range(0, 2000, 100))), ("odd.mkv", [0, 100, 200, 1500, 1600, 5000])):
        camera = make(url=str(timed_video(tmp_path / name, times)), pace="fast")
        assert len(drive(camera, lambda camera=camera: camera.done)) == len(times)
        assert camera.words[-1] == ("ended", "end", "")
