"""People are described from a camera's main stream while its sub-stream is analysed."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import RtspPair, Running, Unavailable, wait_for

from personsearch.core import redaction
from personsearch.core.cut_out import cut_out
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import ConfigError
from personsearch.core.street.street import Street, StreetFrame, StreetSettings
from personsearch.core.video_files import LocalFile
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.detail import DetailReader, DetailView
from personsearch.runtime.cameras.detail_views import DetailViews, Question, reference_of
from personsearch.runtime.cameras.frames import Shot
from personsearch.runtime.cameras.kept_packets import MainStream
from personsearch.runtime.operations.box_state import box_state
from personsearch.runtime.operations.reload import check_cameras, check_details
from personsearch.runtime.operations.status import status_lines
from personsearch.runtime.settings import StreamSettings

av = pytest.importorskip("av", reason="a main stream is read by PyAV: pip install 'personsearch[record]'")
OPTIONS = {"open_timeout_s": 2.5, "read_timeout_s": 2.5, "transport": "tcp", "url": "main.mp4"}
FPS, FRAMES, MAIN, SUB = 10, 30, (768, 432), (256, 144)
STREET = StreetSettings(seed=7, people=4, cameras=2, identities=8, width=MAIN[0], height=MAIN[1])


def small(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, SUB, interpolation=cv2.INTER_AREA)


def encode(path: Path, images: list[np.ndarray]) -> Path:
    """A keyframe a second, with B-frames."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "18", "x264-params": "keyint=10:min-keyint=10:scenecut=0"}
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        file.mux(stream.encode(None))
    return path


class Films:
    """A street of three seconds in two sizes, and one of another shape."""

    def __init__(self, place: Path) -> None:
        street = Street(STREET)
        self.frames: list[StreetFrame] = [street.frame(0, number) for number in range(FRAMES)]
        images = [frame.image for frame in self.frames]
        self.main, self.sub = encode(place / "main.mp4", images), encode(place / "sub.mp4", [*map(small, images)])
        self.square = encode(place / "square.mp4", [cv2.resize(image, (240, 240)) for image in images[:10]])

    def person(self, number: int) -> np.ndarray:
        """(4,) of the largest person in a frame, in its pixels."""
        boxes = self.frames[number].boxes
        return boxes[np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))]

    def question(self, number: int, **clocks: float) -> tuple[Question, np.ndarray]:
        """After that person, as they are seen in the sub-stream."""
        image, box = small(self.frames[number].image), self.person(number) * (SUB[0] / MAIN[0])
        part, shares = cut_out(image, box), np.tile(SUB, 2)
        assert part is not None
        return Question(clocks, part.corners / shares, box / shares, SUB), reference_of(part.picture)

    def error(self, number: int, picture: np.ndarray) -> float:
        """Mean difference in grey levels between a crop that was given and the same place in the frame itself."""
        corners = self.question(number)[0].corners * np.tile(MAIN, 2)
        (x1, y1), (x2, y2) = np.floor(corners[:2]).astype(int), np.ceil(corners[2:]).astype(int)
        own = self.frames[number].image[y1:y2, x1:x2]
        return float(np.abs(cv2.resize(picture, own.shape[1::-1]).astype(int) - own).mean())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    return Films(tmp_path_factory.mktemp("films"))


def stream_of(film: Path) -> MainStream:
    return MainStream(str(film), OPTIONS, LocalFile(str(film)))


def test_of_a_file_the_frame_of_that_very_time_is_given_whatever_the_order_of_the_questions(films: Films) -> None:
    stream, decoded = stream_of(films.main), []
    decode = stream._decoder.decode
    stream._decoder.decode = lambda packet: decoded.append(packet) or decode(packet)  # type: ignore[method-assign, func-returns-value]
    for number in (3, 3, 25, 7, 29, 0):
        ((seconds, _),) = stream.near(number / FPS, 0.0)
        assert seconds == pytest.approx(number / FPS, abs=0.001)
        if number == 25:
            assert len(decoded) < 20  # those between that stand before a later keyframe were left out
    stream.close()


def test_the_crop_is_the_person_in_the_pixels_of_the_main_stream(films: Films, searcher: BundleSearcher) -> None:
    views = DetailViews(stream_of(films.main), 0.1, 0)
    alike = []
    for number in (5, 14, 22):
        answer = views.answer(*films.question(number, file=number / FPS))
        assert answer.view is not None, answer
        assert films.error(number, answer.view.picture) < 8
        frame, box = films.frames[number].image, films.person(number)
        full, part = cut_out(frame, box), cut_out(small(frame), box * (SUB[0] / MAIN[0]))
        assert full is not None
        assert part is not None
        crops = (full, answer.view, part)
        whole, detail, sub = searcher.describe([(crop.picture, crop.box) for crop in crops])
        alike.append((float(whole @ detail), float(whole @ sub)))
    assert min(detail for detail, _ in alike) > 0.9
    assert all(detail > sub + 0.02 for detail, sub in alike), alike


def test_who_is_not_there_at_that_time_is_not_described_as_whoever_is(films: Films) -> None:
    views = DetailViews(stream_of(films.main), 0.1, 0)
    assert views.answer(*films.question(14, file=2.9)).cause == "differs"
    assert views.answer(*films.question(14, file=60.0)).cause == "none"
    assert views.answer(*films.question(14, camera=1.4)).cause == "none"  # a clock that a file does not have


def test_a_stream_that_is_late_by_its_clock_is_found_out_by_what_it_shows(films: Films) -> None:
    stream = stream_of(films.main)
    while (packet := stream._read()) is not None:
        stream._kept.add(packet, 0.0)
    stream.times = SimpleNamespace(offsets=lambda: {"arrival": 100.0})  # type: ignore[assignment]
    views = DetailViews(stream, 0.1, 0)
    for number in range(10, 18):
        answer = views.answer(*films.question(number, arrival=100.0 + number / FPS + 0.3))
        assert answer.view is not None
        assert films.error(number, answer.view.picture) < 8
    assert views._offset("arrival") == pytest.approx(-0.3, abs=0.05)
    assert views.answer(*films.question(20, arrival=100.0 + 2.0 + 0.3)).view is not None
    assert views.answer(*films.question(20, arrival=100.0 + 2.0 - 0.4)).cause == "differs"  # now it is known better


def test_streams_of_another_shape_are_refused_with_both_sizes(films: Films) -> None:
    answer = DetailViews(stream_of(films.square), 0.1, 0).answer(*films.question(3, file=0.3))
    assert answer.cause == "shape"
    assert "detail_url gives 240x240 and url 256x144" in answer.reason
    assert "\n" not in answer.reason
    assert not DetailViews(stream_of(films.main), 0.1, 90).shape_refusal((144, 256))  # both are turned


class Asking:
    """A reader of its own process, without a camera and an engine."""

    def __init__(self, films: Films, url: str, detail_url: str) -> None:
        self.films = films
        given = {"name": "c", "url": url, "detail_url": detail_url, "pace": "fast", "open_timeout_s": 20}
        self.reader = DetailReader(CameraSettings.model_validate(given))

    def turn(self) -> bool:
        self.reader.tick(time.monotonic())
        self.reader.read()
        time.sleep(0.005)
        return True

    def until(self, condition: Callable[[], object]) -> None:
        wait_for(lambda: self.turn() and condition(), 60, 0)

    def ask(self, number: int) -> DetailView | None:
        question, reference = self.films.question(number)
        shot, scale = Shot({"file": number / FPS}, (0.0, 0.0), 1.0, SUB), np.tile(SUB, 2)
        self.reader.ask(number, shot, question.corners * scale, question.box * scale, reference)
        self.until(lambda: self.reader.answers)
        token, view = self.reader.answers.popleft()
        assert token == number
        return view


@pytest.fixture
def asking(films: Films, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Asking]]:
    monkeypatch.setattr("personsearch.runtime.cameras.detail.START_S", 120.0)  # on a busy machine
    made: list[Asking] = []

    def make(detail_url: str, url: str = "") -> Asking:
        made.append(Asking(films, url or str(films.sub), detail_url))
        return made[-1]

    yield make
    for one in made:
        one.reader.stop()


def test_a_reader_that_was_killed_is_replaced_and_its_views_come_from_the_sub_stream(
    films: Films, asking: Callable[..., Asking]
) -> None:
    one = asking(str(films.main))
    reader = one.reader
    one.until(lambda: reader.state == "online")
    view = one.ask(5)
    assert view is not None
    assert films.error(5, view.picture) < 8
    os.kill(reader.process.pid, signal.SIGSTOP)  # it hangs, and is killed with a question before it
    question, reference = films.question(6)
    reader.ask("waits", Shot({"file": 0.6}, (0.0, 0.0), 1.0, SUB), question.corners, question.box, reference)
    os.kill(reader.process.pid, signal.SIGKILL)
    one.until(lambda: reader.state == "offline")
    assert reader.cause == "crashed"
    assert list(reader.answers) == [("waits", None)]
    reader.answers.clear()
    assert one.ask(6) is None  # at once
    assert reader.counts == {"given": 1, "reader": 2}
    one.until(lambda: reader.state == "online")
    assert one.ask(7) is not None


def test_the_reader_says_what_is_wrong_and_shows_no_secret(
    films: Films, asking: Callable[..., Asking], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redaction, "_known", ())
    caplog.set_level(logging.INFO)
    secret = "hunter4711"
    network = asking(f"rtsp://ada:{secret}@127.0.0.1:9/main?token={secret}2", "rtsp://127.0.0.1:9/sub")
    missing, square = asking(str(films.main) + "x"), asking(str(films.square))
    for one in (network, missing):
        one.until(lambda one=one: one.reader.state == "offline")
    assert network.reader.cause == "refused"
    assert missing.reader.cause == "not_found"
    square.until(lambda: square.reader.channel)
    assert square.ask(3) is None
    assert (square.reader.state, square.reader.cause) == ("refused", "settings")
    said = " ".join([caplog.text, network.reader.reason, missing.reader.reason, square.reader.reason])
    assert "rtsp://127.0.0.1:9/main" in said
    assert secret not in said


def test_a_stream_describes_from_the_main_stream_and_counts_it(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("camera", "detail"):
        monkeypatch.setattr(f"personsearch.runtime.cameras.{part}.START_S", 120.0)  # on a busy machine
    limits = {"open_timeout_s": 60, "read_timeout_s": 60}
    camera = {"name": "c", "url": str(films.sub), "detail_url": str(films.main), "pace": "fast", **limits}
    inference = {"timeout_s": 100, "load_timeout_s": 300}
    with Running([camera], inference=inference) as running:
        wait_for(lambda: running.error or not running.thread.is_alive(), 400)
        assert running.error is None
        pipeline = running.pipeline
        reader, recognition = pipeline.details.readers["c"], pipeline.people.of("c")
        assert pipeline.camera("c").counters.analysed == FRAMES
        assert reader.counts["given"] >= recognition.described >= 3  # a better view may come before one is described
        assert reader.counts.total() == reader.counts["given"]
        assert f"main stream {reader.counts['given']} of" in status_lines(pipeline)[0]
        publisher = SimpleNamespace(
            journal=SimpleNamespace(
                sequence=0, failing="", not_kept=0, path=films.main, settings=SimpleNamespace(keep_hours=1, path="")
            ), sent=0, cpu_s=0.0,
        )  # fmt: skip
        told = box_state(pipeline, publisher)["cameras"][0]["detail"]  # type: ignore[arg-type]
        assert told["views"] == {"given": reader.counts["given"]}


def test_a_reload_restarts_the_reader_alone(films: Films) -> None:
    camera = {"name": "c", "url": str(films.sub), "detail_url": str(films.main), "end": "loop"}
    pipeline = Running([camera]).pipeline  # which does not run

    def apply(**more: object) -> list[str]:
        settings = StreamSettings.model_validate({"cameras": [{**camera, **more}], "box": "fault"})
        return pipeline.apply(settings, pipeline.gallery)

    first, reader = pipeline.camera("c"), pipeline.details.readers["c"]
    assert apply(zones=[]) == []
    assert pipeline.details.readers["c"] is reader
    assert apply(detail_url=str(films.square)) == []
    assert pipeline.camera("c") is first
    assert pipeline.details.readers["c"].settings.detail_url == str(films.square)
    assert reader.process is None
    assert apply(detail_url="") == ["c"]  # without a main stream nobody needs the clocks
    assert not pipeline.details.readers


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": "rtsp://h/sub", "detail_url": "film.mp4"}, "network and file"),
        ({"url": "0", "detail_url": "1"}, "webcam and webcam"),
        ({"url": "synthetic://street", "detail_url": "synthetic://street?width=1280"}, "two video files"),
        ({"url": "a.mp4", "detail_url": "b.mp4", "detail_within_s": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CameraSettings.model_validate({"name": "c", **given})


def test_what_the_start_checks_names_line_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cams.yaml"
    path.write_text(text := "cameras:\n- name: c\n  url: rtsp://h/sub\n  detail_url: rtsp://${env:NO_SUCH}@h/main\n")
    import yaml

    settings = StreamSettings.model_validate(yaml.safe_load(text))
    with pytest.raises(ConfigError, match=r"cams.yaml:4: .*NO_SUCH"):
        check_cameras(settings, path)
    everybody, demand = SimpleNamespace(describe="all"), SimpleNamespace(describe="demand")
    with pytest.raises(ConfigError, match=r"cams.yaml:4: camera c: detail_url needs a bundle that describes on demand"):
        check_details(settings, path, everybody)  # type: ignore[arg-type]
    check_details(settings, path, demand)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs PyAV"):
        check_details(settings, path, demand)  # type: ignore[arg-type]


def test_over_rtsp_the_pictures_of_one_moment_are_found_by_both_clocks(films: Films, tmp_path: Path) -> None:
    raws = []
    for size in (MAIN, SUB):
        raws.append(tmp_path / f"{size[0]}.i420")
        images = [cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA) for frame in films.frames]
        raws[-1].write_bytes(b"".join(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).tobytes() for image in images))
    try:
        server = RtspPair(FPS, 0.15, (raws[0], MAIN), (raws[1], SUB))
    except Unavailable as reason:
        pytest.skip(str(reason))
    given = {"name": "c", "url": server.url("sub"), "detail_url": server.url("main"), "read_timeout_s": 20}
    settings = CameraSettings.model_validate(given | {"open_timeout_s": 20})
    camera, reader = Camera(settings, lambda *_: None), DetailReader(settings)
    smalls = [small(frame.image).astype(int) for frame in films.frames]
    clocks: set[str] = set()
    errors: list[float] = []
    asked = 0.0
    try:
        end = time.monotonic() + 90
        while (len(errors) < 3 or len(clocks) < 2) and time.monotonic() < end:
            now = time.monotonic()
            camera.tick(now)
            camera.read()
            reader.tick(now)
            reader.read()
            while reader.answers:
                number, view = reader.answers.popleft()
                errors += [films.error(number, view.picture)] if view is not None else []
            while camera.pending:
                frame = camera.pending.popleft()
                shot = frame.shot
                assert shot is not None
                clocks |= shot.clocks.keys()
                if reader.state == "online" and now - asked > 0.3 and not reader.waiting:
                    asked, number = now, int(np.argmin([np.abs(image - frame.image).mean() for image in smalls]))
                    question, reference = films.question(number)
                    corners, box = (v * np.tile(SUB, 2) for v in (question.corners, question.box))
                    reader.ask(number, shot, corners, box, reference)
                frame.release()
            time.sleep(0.01)
        assert len(errors) >= 3, (reader.state, reader.reason, reader.counts, camera.state, camera.reason)
        assert clocks == {"camera", "arrival"}
        assert float(np.median(errors)) < 10
    finally:
        camera.stop()
        reader.stop()
        server.close()
