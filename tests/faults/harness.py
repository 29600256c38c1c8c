"""Real parts for the fault suite: a running pipeline, fake and real cameras, producers of events. Loopback only."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.core.bundle import read_manifest
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import StreamSettings, default_bundle

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RTSP_PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)


class Unavailable(Exception):
    """This machine lacks something that the fault needs; says what to install."""


@dataclass
class Outcome:
    """What a fault did. `passed` compares with the promise; `figures` are the numbers behind `measured`."""

    injected: str
    measured: str
    passed: bool
    figures: dict[str, Any] = field(default_factory=dict)


def wait_for(condition: Callable[[], Any], timeout_s: float, step_s: float = 0.02) -> float:
    """Seconds until the condition held; raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(step_s)
    return time.monotonic() - began


def free_port(neighbours: int = 2) -> int:
    """A port that is free together with the next ones."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for number in range(port, port + neighbours):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return port


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="personsearch-fault-") as name:
        yield Path(name)


def street_video(path: Path, frames: int = 50, fps: float = 25.0, size: tuple[int, int] = (320, 192)) -> Path:
    """A video file of the synthetic street (motion JPEG: every frame stands alone)."""
    street = Street(StreetSettings(seed=7, people=4, cameras=2, identities=8, width=size[0], height=size[1]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
    for number in range(frames):
        writer.write(street.frame(0, number).image)
    writer.release()
    return path


def picture(number: int, size: tuple[int, int] = (320, 192)) -> np.ndarray:
    """A picture that shows its number."""
    image = np.full((size[1], size[0], 3), number * 7 % 256, np.uint8)
    cv2.putText(image, str(number), (50, 100), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 3)
    return image


def timed_video(path: Path, times_ms: list[int]) -> Path:
    """A motion JPEG file (.mp4 or .mkv) whose frames have these presentation times in milliseconds."""
    raw = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 1000, (320, 192), raw)
    for number, moment in enumerate(times_ms):
        writer.set(cv2.VIDEOWRITER_PROP_PTS, moment)
        writer.set(cv2.VIDEOWRITER_PROP_KEY_FLAG, 1)
        writer.write(cv2.imencode(".jpg", picture(number))[1].reshape(1, -1))
    writer.release()
    return path


def some_gallery(people: int = 3, bundle: str | Path = "") -> Gallery:
    """Strangers, so that names are possible but events come from elsewhere."""
    manifest = read_manifest(bundle or default_bundle())
    gallery = Gallery(manifest.model_hash, manifest.dimensions)
    rng = np.random.default_rng(0)
    for number in range(people):
        row = rng.normal(size=manifest.dimensions).astype(np.float32)
        gallery.add(f"Person {number}", EnrolledView(row / np.linalg.norm(row)))
    return gallery


def drive(camera: Camera, until: Callable[[], Any], timeout_s: float = 120) -> list[Frame]:
    """The part of the pipeline's loop that a camera needs; frames are copied, and given back at once."""
    frames = []
    end = time.monotonic() + timeout_s
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"{camera.state} {camera.cause} {camera.reason} {camera.counters}")
        camera.tick(time.monotonic())
        camera.read()
        while camera.pending:
            frame = camera.pending.popleft()
            camera.counters.analysed += 1
            frame.image = frame.image.copy()
            frames.append(frame)
            frame.release()
        if camera.channel is None:
            time.sleep(0.002)
        else:
            select.select([camera.channel], [], [], 0.01)
    return frames


class Running:
    """A pipeline in a thread, with its real capture and inference processes; events are collected."""

    def __init__(self, cameras: list[dict[str, Any]], gallery: Gallery | None = None, **sections: Any) -> None:
        self.settings = StreamSettings.model_validate({"cameras": cameras, "box": "fault", **sections})
        self.events: list[tuple[float, dict[str, Any]]] = []
        bundle = sections.get("bundle") or default_bundle()
        self.pipeline = Pipeline(
            self.settings, bundle, read_manifest(bundle), gallery or some_gallery(bundle=bundle), self._hear,
            keep_trying=True,
        )  # fmt: skip
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.publish_too: Callable[[dict[str, Any]], None] | None = None

    def _run(self) -> None:
        try:
            self.pipeline.run()
        except BaseException as error:
            self.error = error

    def _hear(self, event: dict[str, Any]) -> None:
        self.events.append((time.monotonic(), event))
        if self.publish_too:
            self.publish_too(event)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pipeline.stop()
        self.thread.join(20)

    def wait_event(self, timeout_s: float, after: float = 0.0, **wanted: Any) -> tuple[float, dict[str, Any]]:
        """The first event after a moment whose fields are as wanted, and when it came."""
        found: list[tuple[float, dict[str, Any]]] = []

        def look() -> bool:
            if self.error is not None:
                raise self.error
            found[:] = [
                (t, e) for t, e in list(self.events) if t >= after and all(e.get(k) == v for k, v in wanted.items())
            ]
            return bool(found)

        wait_for(look, timeout_s)
        return found[0]

    def ready(self, timeout_s: float = 300) -> None:
        self.wait_event(timeout_s, type="engine", state="ready")

    def add_camera(self, camera: dict[str, Any]) -> None:
        """As a reload does it, in the pipeline's own thread."""
        pipeline = self.pipeline
        old = pipeline.settings.model_dump()
        settings = StreamSettings.model_validate({**old, "cameras": [*old["cameras"], camera]})

        def apply(_now: float) -> None:
            pipeline.every_second.remove(apply)
            pipeline.apply(settings, pipeline.gallery)

        pipeline.every_second.append(apply)

    def rate(self, camera: str, seconds: float) -> float:
        """Captured frames a second, from the frames' own stamps."""
        counters = self.pipeline.camera(camera).counters
        stamps: list[tuple[float, int]] = []
        end = time.monotonic() + seconds
        last = counters.captured
        while time.monotonic() < end:
            if counters.captured != last:
                last = counters.captured
                stamps.append((time.monotonic(), last))
            time.sleep(0.001)
        if len(stamps) < 2:
            return 0.0
        return (stamps[-1][1] - stamps[0][1]) / (stamps[-1][0] - stamps[0][0])


class DeadServer:
    """Accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.accepted: list[float] = []
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connections.append(self._socket.accept()[0])
                self.accepted.append(time.monotonic())

    def close(self) -> None:
        for connection in [self._socket, *self._connections]:
            connection.close()


class PictureServer:
    """An HTTP camera (multipart JPEG) whose behaviour can be changed while it runs.

    frames_before_close  end each connection after so many frames (0: never)
    spoil                every so many frames one is damaged (0: none)
    silent               True: keep the connection, send nothing
    """

    def __init__(self, fps: float = 25.0, frames_before_close: int = 0, spoil: int = 0) -> None:
        street = Street(StreetSettings(seed=7, people=4, cameras=2, identities=8, width=320, height=192))
        self._pictures = [cv2.imencode(".jpg", street.frame(0, n).image)[1].tobytes() for n in range(10)]
        self.fps, self.frames_before_close, self.spoil, self.silent = fps, frames_before_close, spoil, False
        self.connections = self.sent = self.spoiled = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/stream.mjpg"
        self._closed = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._socket.accept()[0]
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n")
            number = 0
            while not self._closed and not (self.frames_before_close and number >= self.frames_before_close):
                if not self.silent:
                    picture = self._pictures[number % len(self._pictures)]
                    if self.spoil and number % self.spoil == self.spoil - 1:
                        picture = picture[:200] + os.urandom(len(picture) - 200)
                        self.spoiled += 1
                    head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
                    connection.sendall(head + picture + b"\r\n")
                    self.sent += 1
                    number += 1
                time.sleep(1 / self.fps)

    def close(self) -> None:
        self._closed = True
        self._socket.close()


def start_server(script: str, *arguments: object) -> subprocess.Popen[str]:
    """An RTSP server by the system's Python. Raises Unavailable where GStreamer's is not installed."""
    command = ["/usr/bin/python3", str(HERE / script), *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    if "ready" not in process.stdout.readline():
        process.wait(5)
        raise Unavailable(f"no RTSP server on this machine; install {RTSP_PACKAGES}")
    return process


class RtspPair:
    """A camera's two streams, main and sub, by a real RTSP server: see rtsp_pair.py. Raises Unavailable."""

    def __init__(
        self, fps: float, shift_s: float, main: tuple[Path, tuple[int, int]], sub: tuple[Path, tuple[int, int]]
    ) -> None:
        """main, sub  a file of raw I420 pictures, and their (width, height)"""
        self.port = free_port()
        files = [part for file, (width, height) in (main, sub) for part in (file, f"{width}x{height}")]
        self.process = start_server("rtsp_pair.py", self.port, fps, shift_s, *files)

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)


class RtspServer:
    """A real RTSP server as a process of its own. Raises Unavailable where GStreamer's server is not installed."""

    def __init__(self, port: int = 0, user: str = "", password: str = "") -> None:
        self.port = port or free_port()
        self._extra = [user, password] if user else []
        self.start()

    def start(self) -> None:
        self.process = start_server("rtsp_server.py", self.port, *self._extra)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(5)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"


def start_python(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A script of this folder, or `-c`, as a process of its own with pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip


def end_a_life(process: subprocess.Popen[str], number: int, after_s: float) -> None:
    """Let a program fork a child (it is given the number, and tells the child's), and kill the child in mid-work."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    process.stdout.readline()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory_mb(pid: int | str = "self") -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def fill_up(disk: Path) -> Path:
    """Leave no room; gives the file to remove for some."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A tmpfs of its own. Raises Unavailable without the right to mount."""
    with folder() as place:
        disk = place / "disk"
        disk.mkdir()
        options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
        if not shutil.which("mount") or subprocess.run(options, capture_output=True, check=False).returncode:
            raise Unavailable("a small disk needs the right to mount a tmpfs (root)")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)
