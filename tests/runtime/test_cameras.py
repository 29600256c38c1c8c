"""Capture processes with real files, servers and sockets; options; accounting; scheduling."""

import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
import itertools

from harness import (
    DeadServer,
    PictureServer,
    RtspServer,
    Running,
    Unavailable,
    drive,
    free_port,
    street_video,
    wait_for,
)
from nobody import empty_bundle, network

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import ConfigError
from personsearch.core.records import Detections
from personsearch.core.redaction import redact
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.cameras.preparing import prepare
from personsearch.runtime.cameras.urls import with_secrets, without_secrets
from personsearch.runtime.decisions.zones import outside_zones
from personsearch.runtime.processes.inference import Inference
from personsearch.runtime.processes.scheduler import Scheduler
from personsearch.runtime.settings import InferenceSettings, SchedulingSettings

OPTIONS = {"rotate": 0, "region": None, "max_size": None}


def balance(camera: Camera) -> int:
    c = camera.counters
    return c.captured - c.analysed - sum(c.dropped.values()) - len(camera.pending)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street_video(tmp_path_factory.mktemp("video") / "street.avi", frames=40)


@pytest.fixture
def states() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def make(states: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator:  # type: ignore[type-arg]
    monkeypatch.setattr("personsearch.runtime.cameras.camera.START_S", 120.0)  # on a busy machine
    made: list[Camera] = []

    def build(**settings: object) -> Camera:
        camera = Camera(CameraSettings.model_validate({"name": "c", **settings}), lambda _c, *word: states.append(word))
        made.append(camera)
        return camera

    yield build
    for camera in made:
        camera.stop()


def test_a_file_at_full_speed_gives_every_frame_exactly_once(make, states, video: Path) -> None:
    camera = make(url=str(video), pace="fast")
    frames = drive(camera, lambda: camera.done)
    assert [f.index for f in frames] == list(range(40))
    assert states == [("online", "", ""), ("ended", "end", "")]
    assert balance(camera) == 0
    reader = cv2.VideoCapture(str(video))
    for frame in frames[:5]:
        assert np.array_equal(frame.image, reader.read()[1])
    assert all(b.monotonic >= a.monotonic for a, b in itertools.pairwise(frames))
    assert frames[10].stream_s == pytest.approx(10 / 25, abs=0.05)


def test_a_slow_reader_gets_the_newest_frame_and_everything_is_counted(make, video: Path) -> None:
    camera = make(url=str(video), end="loop")
    end = time.monotonic() + 20
    indices = []
    while len(indices) < 6:
        assert time.monotonic() < end
        camera.tick(time.monotonic())
        camera.read()
        if camera.pending and time.monotonic() - camera.pending[0].monotonic > 0.02:
            before = camera.pending[0].index
            time.sleep(0.5)  # analysis is slow: many frames come meanwhile
            camera.read()
            frame = camera.pending.popleft()
            assert frame.index > before  # the newest one that has a place in memory
            camera.counters.analysed += 1
            indices.append(frame.index)
            frame.release()
    assert camera.counters.dropped["newer"] > 6
    assert indices == sorted(set(indices))
    camera.stop()
    assert balance(camera) == 0


def test_reasons_of_failures_are_told_apart(make, states, tmp_path: Path) -> None:
    dead = DeadServer()
    garbage = tmp_path / "garbage.avi"
    garbage.write_bytes(b"RIFF" + bytes(range(256)) * 100)
    cases = {
        "refused": f"rtsp://user:hunter2@127.0.0.1:{free_port()}/x",
        "timeout": f"http://user:hunter2@127.0.0.1:{dead.port}/x",
        "codec": str(garbage),
        "not_found": str(tmp_path / "none.avi"),
    }
    for cause, url in cases.items():
        states.clear()
        camera = make(url=url, open_timeout_s=1)
        drive(camera, lambda: states)
        assert states[0][1] == cause, states
        assert states[0][0] == ("offline" if "://" in url else "ended")
        assert "hunter2" not in str(states)
    dead.close()


def test_unknown_kinds_of_url_and_missing_secrets_are_explained(make, states, monkeypatch) -> None:
    camera = make(url="gopher://x/y")
    drive(camera, lambda: states)
    assert states[0][:2] == ("ended", "not_found")
    assert "rtsp, http or synthetic" in states[0][2]
    with pytest.raises(ConfigError, match="NOT_THERE"):
        with_secrets("rtsp://${env:NOT_THERE}@h/x", "c")
    with pytest.raises(ConfigError, match="cannot be read"):
        with_secrets("rtsp://${file:/none}@h/x", "c")
    monkeypatch.setenv("CAMERA_SECRET", "u:p")
    assert with_secrets("rtsp://${env:CAMERA_SECRET}@h/x") == "rtsp://u:p@h/x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://u:p@h:554/a?token=t", "rtsp://h:554/a"),
        ("http://h/a", "http://h/a"),
        ("rtsp://u:p@[::1]:5/a", "rtsp://[::1]:5/a"),
        ("rtsp://u:p@[broken/a", "rtsp://..."),
        ("film.avi", "film.avi"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
    assert "u:p" not in redact(f"cannot open '{url}' now")


def test_a_real_rtsp_camera_comes_back_after_a_restart(make, states) -> None:
    try:
        server = RtspServer(user="user", password="right")
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        refused = make(url=server.url.replace("//", "//user:wrong@"))
        drive(refused, lambda: states)
        assert states[0][1] == "auth"
        states.clear()
        lost = make(url=server.url.replace("//", "//user:right@") + "-elsewhere")
        drive(lost, lambda: states)
        assert states[0][1] == "not_found"
        states.clear()
        camera = make(url=server.url.replace("//", "//user:right@"))
        first = drive(camera, lambda: camera.counters.captured > 20)
        server.close()
        drive(camera, lambda: camera.state == "offline")
        assert camera.cause in ("end", "refused", "stall")
        server.start()
        again = drive(camera, lambda: camera.state == "online")
        again += drive(camera, lambda: camera.counters.captured > 40)
        assert again[-1].index > first[-1].index
        assert balance(camera) == 0
    finally:
        server.close()


def test_rate_region_rotation_and_size_are_applied(make, tmp_path: Path) -> None:
    path = tmp_path / "marked.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 160))
    picture = np.zeros((160, 320, 3), np.uint8)
    picture[0:40, 0:40] = (0, 0, 255)  # red in the top left corner
    for _ in range(50):
        writer.write(picture)
    writer.release()
    camera = make(url=str(path), rotate=90, region=[0.5, 0, 0.5, 0.5], max_size=[40, 100], max_fps=5)
    frames = drive(camera, lambda: camera.done)
    assert 8 <= len(frames) <= 12
    assert camera.counters.dropped["rate"] == 50 - len(frames) - camera.counters.dropped["newer"]
    assert balance(camera) == 0
    frame = frames[0]
    # Upright: 160 wide, 320 high, red in the top right corner; the region is its upper right quarter, half its size.
    assert frame.picture_size == (160, 320)
    assert frame.image.shape == (80, 40, 3)
    assert frame.image[2, -3, 2] > 200
    assert frame.image[2, 2, 2] < 50
    assert frame.to_picture(np.array([20, 0, 40, 20])).tolist() == [120, 0, 160, 40]


def test_prepare_never_gives_an_empty_picture() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    tiny = prepare(image, {**OPTIONS, "region": [0.999, 0.999, 0.001, 0.001]})[0]
    assert min(tiny.shape[:2]) >= 1
    assert prepare(image, OPTIONS)[0] is image


def test_people_in_ignored_zones_are_left_out() -> None:
    frame = Frame("c", np.zeros((100, 100, 3), np.uint8), 0, 0.0, 0.0, picture_size=(100, 100))
    found = Detections(np.array([[0, 0, 20, 20], [70, 70, 90, 90]]), np.ones(2), np.eye(2))
    settings = CameraSettings.model_validate({"name": "c", "url": "0", "ignore": [[0.5, 0.5, 0.5, 0.5]]})
    assert outside_zones(found, frame, settings).boxes.tolist() == [[0, 0, 20, 20]]
    assert len(outside_zones(Detections.empty(2), frame, settings)) == 0


def waiting(name: str, moment: float, lossless: bool = False) -> Camera:
    settings = {"name": name, "url": "film.avi", "pace": "fast" if lossless else "source"}
    camera = Camera(CameraSettings.model_validate(settings), lambda *_: None)
    camera.state = "online"
    camera.pending.append(Frame(name, np.zeros((2, 2, 3), np.uint8), 0, 0.0, moment))
    return camera


def test_the_scheduler_is_fair_and_never_takes_stale_frames() -> None:
    scheduler = Scheduler(SchedulingSettings(), batch=1)
    assert scheduler.choose([], False, 0.0, 10.0) == []
    cameras = [waiting(name, 9.9) for name in "abc"]
    order = []
    for turn in range(9):
        now = 10.0 + turn / 100
        (frame,) = scheduler.choose(cameras, False, 0.02, now)
        order.append(frame.camera)
        for camera in cameras:  # a new frame for everybody, a fast camera may offer as many as it likes
            if not camera.pending:
                camera.pending.append(Frame(camera.name, frame.image, 0, 0.0, now))
    assert sorted(order[:3]) == sorted(order[3:6]) == ["a", "b", "c"]
    old, kept = waiting("old", 1.0), waiting("kept", 1.0, lossless=True)
    assert [f.camera for f in scheduler.choose([old, kept], False, 0.02, 10.0)] == ["kept"]
    assert old.counters.dropped == {"stale": 1}
    assert scheduler.choose([waiting("x", 9.9)], True, 0.02, 10.0) == []  # the engine is busy


def test_where_somebody_is_followed_it_is_looked_at_twice_as_often_and_nobody_starves() -> None:
    scheduler = Scheduler(SchedulingSettings(), 1, lambda camera: camera == "a")
    cameras, served = [waiting(name, 9.9) for name in "abcd"], []
    for turn in range(100):
        now = 10.0 + turn / 100
        (frame,) = scheduler.choose(cameras, False, 0.02, now)
        served.append(frame.camera)
        next(c for c in cameras if c.name == frame.camera).pending.append(Frame(frame.camera, frame.image, 0, 0.0, now))
        for camera in cameras:
            camera.pending[-1].monotonic = now
    counts = [served.count(name) for name in "abcd"]
    assert 34 <= counts[0] <= 42
    assert min(counts[1:]) >= 18


def test_a_batch_waits_only_while_the_engine_is_the_bottleneck() -> None:
    scheduler = Scheduler(SchedulingSettings(batch_window_s=0.02), batch=4)
    first, second = waiting("a", 10.0), waiting("b", 10.0)
    second.pending.clear()
    assert len(scheduler.choose([first, second], False, 0.1, 10.0)) == 1  # idle: at once
    for _ in range(20):
        scheduler.note(1.0)
    first.pending.append(Frame("a", np.zeros((2, 2, 3), np.uint8), 1, 0.0, 10.1))
    assert scheduler.choose([first, second], False, 0.1, 10.1) == []
    second.pending.append(Frame("b", np.zeros((2, 2, 3), np.uint8), 1, 0.0, 10.105))
    assert len(scheduler.choose([first, second], False, 0.1, 10.105)) == 2
    first.pending.append(Frame("a", np.zeros((2, 2, 3), np.uint8), 2, 0.0, 10.2))
    assert scheduler.choose([first, second], False, 0.1, 10.2) == []
    assert len(scheduler.choose([first, second], False, 0.1, 10.23)) == 1


def test_lossless_files_survive_the_death_of_the_engine(video: Path) -> None:
    """Every frame is analysed exactly once, although the engine is killed in the middle, and its times tell its way."""
    seen: list[int] = []
    ways: list[list[float]] = []
    with Running([{"name": "file", "url": str(video), "pace": "fast"}], **network()) as running:
        pipeline = running.pipeline
        pipeline.watchers.append(lambda frame, tracks, matches: seen.append(frame.index))
        pipeline.watchers.append(lambda f, *_: ways.append([f.monotonic, f.submitted, f.analysed, f.decided, f.told]))
        pipeline.watchers.append(lambda *_: pipeline.inference.process.kill() if len(seen) == 4 else None)
        running.thread.join(300)
    assert running.error is None
    assert pipeline.inference.restarts == 1
    assert seen == list(range(40))
    assert all(way == sorted(way) for way in ways)
    assert balance(pipeline.cameras[0]) == 0


def test_overload_of_one_camera_does_not_starve_another(video: Path, tmp_path: Path) -> None:
    slow = street_video(tmp_path / "slow.avi", frames=20, fps=3)
    fast = street_video(tmp_path / "fast.avi", frames=100, fps=100)
    cameras = [{"name": "slow", "url": str(slow), "end": "loop"}, {"name": "fast", "url": str(fast), "end": "loop"}]
    with Running(cameras) as running:
        running.ready()
        counters = running.pipeline.camera("slow").counters
        wait_for(lambda: counters.captured >= 15, 30)
        others = running.pipeline.camera("fast").counters
    assert counters.analysed >= 0.7 * (counters.captured - 1)  # a share by frames would leave it 3 %
    assert others.dropped["newer"] > 0
    assert all(balance(c) == 0 for c in running.pipeline.cameras)


def test_a_stranger_on_the_port_is_no_camera(make, states) -> None:
    """Something answers, but it speaks no video."""
    server = socket.create_server(("127.0.0.1", 0))
    camera = make(url=f"http://127.0.0.1:{server.getsockname()[1]}/x", open_timeout_s=2)
    camera.tick(time.monotonic())
    server.settimeout(10)
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>hello</html>")
    connection.close()
    drive(camera, lambda: states)
    assert states[0][0] == "offline"
    assert states[0][1] in ("codec", "timeout", "end")
    server.close()


def test_pictures_over_http_are_read(make) -> None:
    server = PictureServer(fps=30)
    camera = make(url=server.url)
    frames = drive(camera, lambda: camera.counters.captured > 20)
    expected = Street(StreetSettings(seed=7, people=4, cameras=2, identities=8, width=320, height=192)).frame(0, 0)
    assert frames[0].image.shape == expected.image.shape
    server.close()


def test_a_camera_is_opened_anew_after_damaged_frames_in_a_row(make, states) -> None:
    server = PictureServer(fps=50, spoil=1)
    server.spoil = 0
    camera = make(url=server.url, bad_frames=8)
    drive(camera, lambda: camera.state == "online")
    opened = camera.counters.opened
    server.spoil = 1  # from now on all of them
    drive(camera, lambda: camera.state == "offline")
    assert camera.cause == "codec"
    server.spoil = 0
    drive(camera, lambda: camera.state == "online")
    assert camera.counters.opened > opened
    server.close()


def test_frames_of_several_cameras_share_a_batch(make, video: Path, tmp_path: Path) -> None:
    bundle = empty_bundle(tmp_path, batch=4)
    manifest = read_manifest(bundle)
    options = {"bundle": bundle, "engine": "onnxruntime", "threads": 1}
    words: list[tuple[str, str, int]] = []
    inference = Inference(options, manifest, InferenceSettings(), lambda *word: words.append(word))
    cameras = [make(name=f"c{n}", url=str(video), pace="fast") for n in range(5)]
    scheduler = Scheduler(SchedulingSettings(), manifest.batch)
    try:
        end = time.monotonic() + 60
        while not inference.idle or not all(camera.pending for camera in cameras):
            assert time.monotonic() < end
            inference.tick(time.monotonic())
            inference.read()
            for camera in cameras:
                camera.tick(time.monotonic())
                camera.read()
        frames = scheduler.choose(cameras, not inference.idle, 0.0, time.monotonic())
        assert len({frame.camera for frame in frames}) == 4
        inference.submit(frames, None, time.monotonic())
        while (result := inference.read()) is None:
            assert time.monotonic() < end
            inference.tick(time.monotonic())
        assert result.frames == frames
        assert [len(found) for found in result.detections] == [0] * 4
        assert inference.batches == 1
        assert [word[0] for word in words] == ["ready"]
    finally:
        inference.close()


def test_a_helper_that_cannot_be_started_is_tried_again(make, states, video: Path) -> None:
    """Without a free descriptor, and without a process: the camera is offline with a reason, then goes on."""
    camera = make(url=str(video), pace="fast")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        camera.tick(time.monotonic())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert states == [("offline", "crashed", states[0][2])]
    assert "cannot be started (Too many open files)" in states[0][2]
    assert len(os.listdir("/proc/self/fd")) == opened
    frames = drive(camera, lambda: camera.done)
    assert [f.index for f in frames] == list(range(40))


@pytest.mark.parametrize("limit", ["RLIMIT_NOFILE", "RLIMIT_AS"])
def test_a_capture_process_without_room_for_frames_says_so(make, tmp_path: Path, video: Path, limit: str) -> None:
    """Its limits are taken away once it runs, and the film becomes a larger one, for which it has no memory."""
    film, larger = shutil.copy(video, tmp_path / "film.avi"), tmp_path / "larger.avi"
    writer = cv2.VideoWriter(str(larger), cv2.VideoWriter.fourcc(*"MJPG"), 10, (1920, 1080))
    for _ in range(10):
        writer.write(np.zeros((1080, 1920, 3), np.uint8))
    writer.release()
    camera = make(url=str(film), end="loop", pace="fast")
    drive(camera, lambda: camera.counters.captured > 5)
    kind, pid = getattr(resource, limit), camera.process.pid
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, kind, (3, 3) if limit == "RLIMIT_NOFILE" else (used, used))
    larger.replace(film)
    drive(camera, lambda: camera.state == "offline")
    assert camera.cause in ("crashed", "codec", "not_found")
    assert camera.reason
    drive(camera, lambda: camera.state == "online")
    assert balance(camera) == 0
