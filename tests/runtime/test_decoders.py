"""Who decodes: devices that this machine lacks or that fail, and the processor that takes over from them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resting import OPTIONS, number_of, scene

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import drive, street_video

from personsearch.core.video_files import LocalFile, SourceError
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras import camera as cameras
from personsearch.runtime.cameras import decoders
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.packets import PacketSource
from personsearch.runtime.cameras.sources import open_source
from personsearch.runtime.operations.trials import try_camera

av = pytest.importorskip("av", reason="devices decode by PyAV: pip install 'personsearch[record]'")
FRAMES, GOP = 40, 10
Words = list[tuple[str, ...]]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty numbered frames at 25 a second, a keyframe every ten."""
    path = tmp_path_factory.mktemp("film") / "street.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.options = {"preset": "ultrafast", "x264-params": f"keyint={GOP}:min-keyint={GOP}:scenecut=0"}
        for number in range(FRAMES):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(scene(number, range(0)), format="bgr24")))
        file.mux(stream.encode(None))
    return path


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any, wherever the tests run."""
    monkeypatch.setattr(decoders, "DEVICES", {kind: (str(tmp_path / kind),) for kind in decoders.DEVICES})


@pytest.fixture
def a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[Any], Any]], None]:
    """Gives the machine a device by V4L2. What decodes on it is made by a function, from the stream's own decoder."""

    def install(made: Callable[[Any], Any]) -> None:
        (tmp_path / "video0").touch()
        monkeypatch.setattr(decoders, "DEVICES", {"v4l2": (str(tmp_path / "video*"),)})
        monkeypatch.setattr(decoders.Decoder, "_open", lambda self, kind: made(self._software))

    return install


def opened(film: Path, decoding: str) -> PacketSource:
    source = PacketSource(str(film), {**OPTIONS, "url": str(film), "decoding": decoding}, LocalFile(str(film)))
    source.begin()
    return source


def numbers(source: PacketSource) -> list[int]:
    given = []
    while source.grab():
        given.append(number_of(source.retrieve()))
    return given


def beside(software: Any, codec: str = "") -> Any:
    """Another decoder for the stream, made as one on a device is."""
    context = av.CodecContext.create(codec or software.codec.canonical_name, "r")
    context.extradata = None if codec else software.extradata
    return context


class Failing:
    """A decoder that refuses every packet after so many."""

    name = "failing"

    def __init__(self, context: Any, after: int) -> None:
        self.context, self.left = context, after

    def decode(self, packet: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise av.error.InvalidDataError(1, "the device is gone")
        return self.context.decode(packet)


def test_without_a_device_the_processor_decodes_and_says_why(film: Path, no_device: None) -> None:
    source = open_source({**OPTIONS, "url": str(film), "rests": False, "decoding": "auto"})
    assert not isinstance(source, PacketSource)
    assert not source.tries_device
    assert source.decoder().startswith("software (cuda: no ")
    assert source.decoder().count("no /") == 3
    resting = open_source({**OPTIONS, "url": str(film), "decoding": "auto"})
    resting.begin()
    assert resting.decoder() == source.decoder()
    assert open_source({**OPTIONS, "url": str(film), "rests": False, "decoding": "software"}).decoder() == (
        "software (as asked)"
    )


def test_a_device_that_is_asked_for_and_missing_is_an_error_of_its_camera(
    film: Path, no_device: None, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"decoding: vaapi does not work here: no .*vaapi; decoding: auto decodes"):
        open_source({**OPTIONS, "url": str(film), "decoding": "vaapi"})


@pytest.mark.skipif(not decoders.missing("vaapi"), reason="this machine may decode by VAAPI")
def test_its_process_tells_the_stream_and_the_doctor(film: Path) -> None:
    told: Words = []
    camera = Camera(
        CameraSettings.model_validate({"name": "c", "url": str(film), "decoding": "vaapi"}),
        lambda _camera, *words: told.append(words),
    )
    try:
        drive(camera, lambda: camera.state == "ended")
    finally:
        camera.stop()
    assert told[0][:2] == ("ended", "settings")
    assert "decoding: vaapi does not work here" in told[0][2]
    trial = try_camera({**camera.settings.model_dump(mode="json"), "lossless": False}, 0.1)
    assert "decoding: vaapi does not work here" in trial.problem


def test_a_camera_logs_its_decoder_once(
    film: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = street_video(tmp_path / "v.avi", frames=4)
    settings = {"name": "c", "url": str(path), "pace": "fast", "end": "loop", "decoding": "software"}
    camera = Camera(CameraSettings.model_validate(settings), lambda *_: None)
    with caplog.at_level("INFO", logger=cameras.log.name):
        try:
            drive(camera, lambda: camera.counters.opened > 2)
        finally:
            camera.stop()
    assert [r.getMessage() for r in caplog.records] == ["camera c: decoder: software (as asked)"]


@pytest.mark.parametrize("url", ["frames/%03d.jpg", "synthetic://street?seed=7"])
def test_a_device_cannot_be_asked_for_where_there_are_no_packets(
    url: str, a_device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    a_device(beside)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    cv2.imwrite("frames/001.jpg", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(SourceError, match="decoding: v4l2 is for video files and network streams"):
        open_source({**OPTIONS, "url": url, "decoding": "v4l2"})


def test_a_decoder_beside_the_streams_own_gives_the_same_frames(film: Path, a_device: Any) -> None:
    a_device(beside)
    source = opened(film, "v4l2")
    assert source.tries_device
    assert source.decoder() == "v4l2 (h264, as asked)"
    assert numbers(source) == list(range(FRAMES))
    assert source.decoder() == "v4l2 (h264, as asked)"


@pytest.mark.parametrize("device", ["of another codec", "that refuses all", "that gives nothing"])
def test_from_a_device_that_gives_no_picture_the_processor_takes_over_and_nothing_is_lost(
    film: Path, a_device: Any, device: str
) -> None:
    class Silent(Failing):
        def decode(self, packet: Any) -> Any:
            return []

    a_device({
        "of another codec": lambda software: beside(software, "hevc"),
        "that refuses all": lambda software: Failing(software, 0),
        "that gives nothing": lambda software: Silent(software, 0),
    }[device])  # fmt: skip
    source = opened(film, "auto")
    assert source.decoder().startswith("v4l2 (")
    assert numbers(source) == list(range(FRAMES))
    assert source.decoder() == "software (v4l2 gave no picture of this stream)"
    with pytest.raises(SourceError, match="decoding: v4l2 does not work here: the device gave no picture"):
        numbers(opened(film, "v4l2"))


def test_from_a_device_that_fails_later_the_processor_takes_over_at_a_keyframe(film: Path, a_device: Any) -> None:
    a_device(lambda software: Failing(beside(software), 12))
    source = opened(film, "auto")
    given = numbers(source)
    assert given == [*range(given.index(20)), *range(20, FRAMES)]
    assert 8 <= given.index(20) <= 12
    assert source.decoder() == "software (v4l2 failed while it decoded)"


def test_a_device_that_hangs_or_crashes_twice_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    """What its processes say is said for them: a driver that hangs is not at hand."""
    sent: list[dict[str, Any]] = []

    class Channel:
        def send(self, message: dict[str, Any]) -> None:
            sent.append(message)

        def close(self) -> None: ...

    class Process:
        def poll(self) -> int:
            return -11

    monkeypatch.setattr(cameras, "start_process", lambda *_args, **_options: (Process(), Channel()))
    camera = Camera(CameraSettings.model_validate({"name": "c", "url": str(film)}), lambda *_: None)
    for now in (1000.0, 2000.0):
        camera.tick(now)
        camera._hear({"kind": "opened", "device": True}, [], now)
        camera.tick(now + 10.0)
        assert camera.channel is not None, "it has longer to open a device than to give a frame"
        camera.tick(now + 20.0)
        assert camera.cause == "stall"
    camera.tick(3000.0)
    assert [message["decoding"] for message in sent] == ["auto", "auto", "software"]
