"""A camera in which nothing moves decodes keyframes only, and nothing that moves is lost by it."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from test_motion import picture

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import DeadServer, PictureServer, RtspServer, Unavailable, drive, free_port

from personsearch.core.video_files import LocalFile
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.packets import PacketSource
from personsearch.runtime.cameras.sources import open_source
from personsearch.runtime.settings import SchedulingSettings

av = pytest.importorskip("av", reason="to rest needs PyAV: pip install 'personsearch[record]'")
OPTIONS = {"open_timeout_s": 2.5, "read_timeout_s": 2.5, "transport": "tcp", "rests": True, "decoding": "software"}
FPS, GOP = 10, 10


def scene(number: int, walk: range) -> np.ndarray:
    """A still street, its number as a bar on top, and somebody who walks through it in the frames of `walk`."""
    image = picture((10 + 12 * (number - walk.start), 100, 14, 40) if number in walk else None, noise=1)
    image[:4], image[:4, : 2 * number] = 0, 255
    return image


def number_of(image: np.ndarray) -> int:
    return round(float((image[1] > 128).all(1).sum()) / 2)


@pytest.fixture(scope="module", params=["libx264", "libx265", "libx264 with B-frames"])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 frames at 10 a second, a keyframe a second; somebody walks through from frame 124 to 139."""
    codec, _, frames = request.param.partition(" ")
    path = tmp_path_factory.mktemp("film") / "street.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = GOP
        quiet = "log-level=none:" if codec == "libx265" else ""
        stream.options = {"preset": "veryfast", "crf": "18", **({} if frames else {"tune": "zerolatency"}),
                          f"{codec[3:]}-params": f"{quiet}keyint={GOP}:min-keyint={GOP}:scenecut=0"}  # fmt: skip
        for number in range(160):
            for packet in stream.encode(av.VideoFrame.from_ndarray(scene(number, range(124, 140)), format="bgr24")):
                file.mux(packet)
        file.mux(stream.encode(None))
    return path


def test_awake_it_gives_every_frame_at_its_time_as_opencv_does(film: Path) -> None:
    ours, theirs = (
        open_source({**OPTIONS, "url": str(film)}),
        open_source({**OPTIONS, "url": str(film), "rests": False}),
    )
    assert isinstance(ours, PacketSource)
    assert ours.fps == theirs.fps == FPS
    assert ours.announced_s == pytest.approx(16.0, abs=0.2)
    count = 0
    while theirs.grab():
        assert ours.grab()
        assert ours.stream_s() == pytest.approx(theirs.stream_s(), abs=0.002)
        assert np.abs(ours.retrieve().astype(int) - theirs.retrieve()).mean() < 2
        assert not ours.skipped
        assert ours.behind == 0
        count += 1
    assert not ours.grab()
    assert count == 160
    ours.close()
    theirs.close()


def test_resting_it_decodes_keyframes_and_catches_up_when_one_of_them_stirs(film: Path) -> None:
    source = PacketSource(str(film), {**OPTIONS, "url": str(film)}, LocalFile(str(film)))
    given: list[tuple[int, int]] = []  # number, behind
    skipped, looked = 0, []

    def stirs(image: np.ndarray) -> bool:
        looked.append(number_of(image))
        return looked[-1] >= 130

    while source.grab():
        if len(given) == 35:
            source.rest(stirs)
        if source.skipped:
            assert source.retrieve() is None
            skipped += 1
        else:
            number = number_of(source.retrieve())
            given.append((number, source.behind))
            if number == 130:
                source.wake()
    numbers = [number for number, _ in given]
    assert numbers[:40] == list(range(40))
    assert looked == list(range(50, 140, 10))
    # Of the keyframes from 40 on each is given; then what was left out since 120, and from there on everything.
    assert numbers[40:] == [*range(40, 121, 10), *range(121, 160)]
    assert skipped == 9 * 9
    assert [behind for number, behind in given if 121 <= number < 130] == list(range(9, 0, -1))
    assert {behind for number, behind in given if not 121 <= number < 130} == {0}


def test_woken_by_the_stream_it_gives_what_it_left_out(film: Path) -> None:
    source = PacketSource(str(film), {**OPTIONS, "url": str(film)}, LocalFile(str(film)))
    source.rest(lambda image: False)
    for _ in range(25):
        assert source.grab()
    source.wake()
    given = []
    while source.grab():
        given.append((number_of(source.retrieve()), source.behind > 0))
    assert given == [*((n, True) for n in range(21, 25)), *((n, False) for n in range(25, 160))]


def test_where_keyframes_are_rare_it_does_not_rest_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personsearch.runtime.cameras.packets.MOST_KEPT_S", 0.45)
    path = tmp_path / "rare.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "keyint=1000:scenecut=0"}
        for number in range(30):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(scene(number, range(0)), format="bgr24")))
        file.mux(stream.encode(None))
    source = PacketSource(str(path), {**OPTIONS, "url": str(path)}, LocalFile(str(path)))
    given, skipped = [], 0
    while source.grab():
        source.rest(lambda image: False)
        skipped += source.skipped
        given += [] if source.skipped else [number_of(source.retrieve())]
    assert given == list(range(30)) or given[1:] == list(range(2, 30))
    assert skipped < 7


@pytest.mark.parametrize(
    ("film", "max_fps"),
    [("libx264 with B-frames", 0), pytest.param("libx264", 5, marks=pytest.mark.slow)],  # each as long as the film
    indirect=["film"],
)
def test_a_camera_rests_accounts_for_every_frame_and_delivers_the_walk(film: Path, max_fps: int) -> None:
    given = {"name": "c", "url": str(film), "max_fps": max_fps, "ignore": [[0, 0, 1, 0.04]]}
    camera = Camera(CameraSettings.model_validate(given), lambda *_: None)
    scheduling = SchedulingSettings(motion=True, look_every_s=2.0)
    camera.leave_out_still(scheduling, watch_every_s=math.inf)
    try:

        def ended() -> bool:
            camera.leave_out_still(scheduling, watch_every_s=math.inf)
            return camera.state == "ended"

        frames = drive(camera, ended, 60)
    finally:
        camera.stop()
    counters = camera.counters
    assert counters.captured == 160
    assert counters.captured == counters.analysed + sum(counters.dropped.values())
    moments = [frame.moment for frame in frames]
    assert moments == sorted(set(moments))
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    walk = [n for n in indices if 124 <= n < 140]
    assert len(walk) >= (16 if not max_fps else 7)
    assert any(frame.late for frame in frames)
    for frame in frames:
        assert number_of(frame.image) == frame.index
        assert frame.moment == pytest.approx(frame.index / FPS, abs=0.02)
    assert counters.dropped["still"] > 60


def test_network_cameras_work_and_fail_with_the_causes_that_others_have() -> None:
    told: list[tuple[str, str]] = []

    def first_words(url: str) -> tuple[str, str]:
        camera = Camera(
            CameraSettings.model_validate({"name": "c", "url": url}), lambda c, *word: told.append(word[:2])
        )
        camera.leave_out_still(SchedulingSettings(motion=True), watch_every_s=math.inf)
        before = len(told)
        try:
            drive(camera, lambda: len(told) > before, 20)
        finally:
            camera.stop()
        return told[before]

    pictures, dead = PictureServer(), DeadServer()
    try:
        assert first_words(pictures.url) == ("online", "")
        assert first_words(f"http://127.0.0.1:{dead.port}/x") == ("offline", "timeout")
        assert first_words(f"rtsp://127.0.0.1:{free_port()}/x") == ("offline", "refused")
    finally:
        pictures.close()
        dead.close()
    try:
        server = RtspServer(user="ada", password="secret7788")
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        assert first_words(f"rtsp://ada:secret7788@127.0.0.1:{server.port}/live") == ("online", "")
        assert first_words(f"rtsp://ada:wrong@127.0.0.1:{server.port}/live") == ("offline", "auth")
        assert first_words(f"rtsp://ada:secret7788@127.0.0.1:{server.port}/other") == ("offline", "not_found")
    finally:
        server.close()
