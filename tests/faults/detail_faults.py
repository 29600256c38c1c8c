"""Faults of a camera's main stream (`detail_url`), from which people of its sub-stream are described. None may be an
outage of the camera, and nobody may be described as somebody else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import av
import cv2
import numpy as np
from harness import Outcome, free_port, wait_for

from personsearch.core.cut_out import cut_out
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras import camera, detail
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.detail import DetailReader, DetailView
from personsearch.runtime.cameras.detail_views import reference_of
from personsearch.runtime.cameras.frames import Frame

FPS, PICTURES, MAIN, SUB, SQUARE = 20, 20, (512, 288), (256, 144), (240, 240)
SILENT_S = 3.0  # after which a stream counts as stalled
BACK_S = 10.0  # within which views come again
WRONG = 11.0  # grey levels in the mean: views of their moment have 4 to 8, of the next picture at least 14


class Film:
    """A street that goes on for a second and then again. Which picture is due says the machine's clock."""

    def __init__(self) -> None:
        street = Street(StreetSettings(seed=7, people=4, cameras=2, identities=8, width=MAIN[0], height=MAIN[1]))
        self.frames = [street.frame(0, 3 * number) for number in range(PICTURES)]
        self.small = [cv2.resize(f.image, SUB, interpolation=cv2.INTER_AREA).astype(np.int16) for f in self.frames]

    def number_of(self, image: np.ndarray) -> int:
        """Of the picture that an analysed image shows."""
        return int(np.argmin([np.abs(small - image).mean() for small in self.small]))

    def error(self, number: int, view: DetailView) -> float:
        """How far a view of that picture's largest person is from what it shows there, in grey levels."""
        part = cut_out(self.frames[number].image, self.person(number))
        assert part is not None
        there = cv2.resize(view.picture, part.picture.shape[1::-1]).astype(np.int16)
        return float(np.abs(there - part.picture).mean())

    def person(self, number: int) -> np.ndarray:
        boxes = self.frames[number].boxes
        return boxes[np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))]


street = cache(Film)


class Streamer:
    """One stream of a camera, H.264 in MPEG-TS over HTTP. What it does can be changed while it runs:

    up      False: nobody is let in, and who was in is put out
    silent  True: connections stay, nothing is sent
    size    (width, height), of the next connections
    fps     pictures a second"""

    def __init__(self, film: Film, size: tuple[int, int], up: bool = True) -> None:
        self.film, self.size, self.fps, self.up, self.silent = film, size, FPS, up, False
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/stream.ts"
        self._closed = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._closed:
            if not self.up:
                time.sleep(0.02)
                continue
            with socket.create_server(("127.0.0.1", self.port)) as server:
                server.settimeout(0.1)
                while self.up and not self._closed:
                    with contextlib.suppress(TimeoutError):
                        threading.Thread(target=self._serve, args=(server.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, av.FFmpegError), connection:
            connection.settimeout(5)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            with connection.makefile("wb", buffering=0) as body:
                self._send(body, self.size)

    def _send(self, body: Any, size: tuple[int, int]) -> None:
        file = av.open(body, "w", format="mpegts", options={"flush_packets": "1"})
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": f"keyint={FPS // 2}:scenecut=0"}
        while self.up and not self._closed:
            now = time.monotonic()
            if not self.silent:
                image = self.film.frames[int(now * FPS) % PICTURES].image
                picture = av.VideoFrame.from_ndarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), "bgr24")
                picture.pts, picture.time_base = round(now * 90_000), Fraction(1, 90_000)
                file.mux(stream.encode(picture))
            time.sleep(1 / self.fps - time.monotonic() % (1 / self.fps))

    def close(self) -> None:
        self._closed = True


class Watching:
    """A camera and the reader of its main stream, without an engine: of the largest person of every analysed frame a
    view is asked for. `views` are those that came, with their errors; `refused` counts the questions answered with
    none."""

    def __init__(self, film: Film, main: Streamer, sub: Streamer) -> None:
        limits = {"read_timeout_s": SILENT_S, "open_timeout_s": 20.0}
        settings = CameraSettings.model_validate({"name": "c", "url": sub.url, "detail_url": main.url, **limits})
        self.film, self.states = film, list[str]()
        self.camera = Camera(settings, lambda _camera, state, _cause, _reason: self.states.append(state))
        self.reader = DetailReader(settings)
        self.views: list[tuple[float, float]] = []  # when it came, and its error
        self.refused, self.asked, self._at = 0, 0, 0.0

    def turn(self) -> None:
        now = time.monotonic()
        for part in (self.camera, self.reader):
            part.tick(now)
            part.read()
        while self.reader.answers:
            number, view = self.reader.answers.popleft()
            if view is None:
                self.refused += 1
            else:
                self.views.append((now, self.film.error(number, view)))
        while self.camera.pending:
            frame = self.camera.pending.popleft()
            self.camera.counters.analysed += 1
            if now - self._at >= 0.1:
                self._at = now
                self._ask(frame)
            frame.release()

    def _ask(self, frame: Frame) -> None:
        number = self.film.number_of(frame.image)
        box = self.film.person(number) * (SUB[0] / MAIN[0])
        part = cut_out(frame.image, box)
        assert part is not None
        assert frame.shot is not None
        self.asked += 1
        self.reader.ask(number, frame.shot, part.corners, box, reference_of(part.picture))

    def until(self, condition: Callable[[], object], timeout_s: float = 60.0) -> float:
        """Seconds until then."""
        return wait_for(lambda: self.turn() or condition(), timeout_s, 0.003)

    def until_views(self, count: int = 3) -> float:
        """Seconds until so many more came."""
        before = len(self.views)
        return self.until(lambda: len(self.views) >= before + count)

    def seconds(self, seconds: float) -> int:
        """Watch for so long; gives the frames that the camera gave meanwhile."""
        before, end = self.camera.counters.captured, time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)
        return self.camera.counters.captured - before

    @property
    def wrong(self) -> int:
        return sum(error > WRONG for _, error in self.views)

    @property
    def undisturbed(self) -> bool:
        """The camera was online all the time, and every question was answered."""
        return self.states == ["online"] and self.asked <= self.refused + len(self.views) + detail.MOST_ASKED

    def told(self) -> str:
        return (
            f"{len(self.views)} views, {self.wrong} of another moment, {self.refused} of {self.asked} people described "
            f"from `url`; the camera stayed online: {self.undisturbed}"
        )


@contextlib.contextmanager
def watching(up: bool = True, size: tuple[int, int] = MAIN) -> Iterator[tuple[Watching, Streamer]]:
    """With the main stream's server; the retries of its reader come as after a minute of health.

    up, size  of that server at first"""
    film, constants = street(), (detail.LAST_RETRY_S, detail.START_S, camera.START_S)
    main, sub = Streamer(film, size, up), Streamer(film, SUB)
    one = Watching(film, main, sub)
    detail.LAST_RETRY_S, detail.START_S, camera.START_S = detail.FIRST_RETRY_S, 60.0, 60.0  # on a busy machine
    try:
        one.until(lambda: one.camera.state == "online")
        yield one, main
    finally:
        detail.LAST_RETRY_S, detail.START_S, camera.START_S = constants
        one.camera.stop()
        one.reader.stop()
        main.close()
        sub.close()


def comes_and_goes(long: bool) -> Outcome:
    """Down at first, then up, then silent, then up again."""
    hangs = []
    with watching(up=False) as (one, main):
        one.until(lambda: one.reader.state == "offline" and one.refused >= 2)
        first = one.reader.cause
        main.up = True
        back = [one.until_views()]
        for _ in range(5 if long else 1):
            main.silent = True
            hangs.append(one.until(lambda: one.reader.state == "offline"))
            cause, refused = one.reader.cause, one.refused
            one.until(lambda refused=refused: one.refused > refused)
            main.silent = False
            back.append(one.until_views())
        told, good = one.told(), one.undisturbed and one.wrong == 0
    return Outcome(
        f"the main stream is down, comes, then {len(hangs)} times is silent and goes on",
        f"offline ({first}), then ({cause}) after {max(hangs):.1f} s; views again after {max(back):.1f} s; {told}",
        good and first == "refused" and cause == "stall" and max(hangs) < SILENT_S + 2 and max(back) < BACK_S,
        {"hang_s": [round(s, 2) for s in hangs], "back_s": [round(s, 2) for s in back]},
    )


def another_shape(long: bool) -> Outcome:
    """It is set to another aspect ratio, and back: a place in one stream is none in the other."""
    del long
    with watching(size=SQUARE) as (one, main):
        one.until(lambda: one.reader.state == "refused")
        reason, given = one.reader.reason, len(one.views)
        one.seconds(0.5)
        while_refused = len(one.views) - given
        main.size, main.up = MAIN, False
        one.until(lambda: one.reader.state == "offline")
        main.up = True
        back = one.until_views()
        told, good = one.told(), one.undisturbed and one.wrong == 0
    sizes = f"{SQUARE[0]}x{SQUARE[1]}" in reason and f"{SUB[0]}x{SUB[1]}" in reason
    return Outcome(
        "a main stream of 240x240 beside a sub-stream of 256x144, then of 640x360",
        f"refused with both sizes: {sizes}, {while_refused} views meanwhile; views {back:.1f} s after it was mended; "
        f"{told}",
        good and sizes and not given and not while_refused and back < BACK_S,
        {"back_s": round(back, 2)},
    )


def slower(long: bool) -> Outcome:
    """Of most moments the main stream has no frame; who moves must not be taken from another one."""
    with watching() as (one, main):
        one.until_views()
        main.fps = 3
        one.seconds(0.5)
        before, refused = len(one.views), one.refused
        frames = one.seconds(30 if long else 4)
        views, none = len(one.views) - before, one.refused - refused
        told, good = one.told(), one.undisturbed and one.wrong == 0
    return Outcome(
        f"a main stream of 3 pictures a second beside a sub-stream of {FPS}",
        f"{views} views and {none} times none while the camera gave {frames} frames; {told}",
        good and none > 0 and frames > 0,
        {"views": views, "none": none, "causes": dict(one.reader.counts)},
    )


def reader_killed(long: bool) -> Outcome:
    """kill -9 and SIGSTOP of the process that reads the main stream."""
    back = []
    with watching() as (one, _):
        one.until_views()
        for number in (signal.SIGKILL, signal.SIGSTOP) * (5 if long else 1):
            process = one.reader.process
            os.kill(process.pid, number)
            gone = one.until(lambda process=process: one.reader.process not in (process, None))
            back.append(gone + one.until_views(1))
        told, good = one.told(), one.undisturbed and one.wrong == 0
    return Outcome(
        f"kill -9 and SIGSTOP of the main stream's reader, {len(back)} times in all",
        f"replaced, and views again after {max(back):.1f} s at worst; {told}",
        good and max(back) < BACK_S,
        {"back_s": [round(s, 2) for s in back]},
    )
