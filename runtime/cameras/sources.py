"""Where frames come from: video files, webcams, network streams and the synthetic street. Runs in capture processes,
so it imports little."""

from __future__ import annotations

import importlib.util
import math
import os
import select
import time
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np

from personsearch.core.redaction import redact
from personsearch.core.video_files import LocalFile, SourceError, find_file
from personsearch.core.videos import open_with_ffmpeg
from personsearch.runtime.cameras.decoders import why_software
from personsearch.runtime.cameras.packets import PacketSource
from personsearch.runtime.cameras.urls import ENCODE, address_of, advice, kind_of, without_secrets

RATE_WITHOUT_FPS = 25.0


class Source(Protocol):
    fps: float  # nominal rate, 0 = unknown
    announced_s: float  # how long it lasts by its own word, 0 = unknown
    gap: str  # of numbered pictures: which one is missing, in a sentence
    tries_device: bool = False  # `begin` opens a device

    def begin(self) -> None:
        """Before the first frame: open a device that decodes, where one is to be used. It may hang, and raise
        SourceError."""
        return

    def decoder(self) -> str:
        """Who decodes it, and why; empty where nothing is decoded."""
        return ""

    def grab(self) -> bool:
        """Go on to the next frame; False at the end, for a bad frame, and on a broken stream."""

    def retrieve(self) -> np.ndarray | None:
        """The frame grabbed last as uint8 (h, w, 3) BGR; None if it cannot be decoded."""

    def stream_s(self) -> float | None: ...

    def close(self) -> None: ...

    def clocks(self) -> dict[str, float]:
        """When the frame grabbed last was taken, by clocks that other streams of the camera have, too."""
        return {}

    # Sources that cannot rest (see packets.py) decode every frame, at once.
    skipped: bool = False  # the frame grabbed last was not decoded, and cannot be retrieved
    behind: int = 0  # 0, or: it was left out first, so many frames
    behind_s: float = 0.0  # and seconds ago

    def rest(self, stirs: Callable[[np.ndarray], bool]) -> None:
        """Nothing moves: frames may be left out until a picture stirs."""
        return

    def wake(self) -> None:
        """Every frame counts again."""
        return


def open_source(options: dict[str, Any], waiting: Callable[[], None] = lambda: None) -> Source:
    """options  the camera's settings as a dictionary, the url with its secrets; `rests`: frames without motion are left
             out, so that a source that need not decode them is worth having; `clocks`: so is one that has clocks
    waiting  called several times a second while nobody writes to a FIFO
    Raises SourceError, whose message holds no secrets."""
    wanted = options.get("decoding", "auto")
    why = why_software(wanted)
    packets = (options.get("rests") or options.get("clocks")) and importlib.util.find_spec("av") is not None
    source = _open(options, packets or not why, waiting)
    if wanted not in ("auto", "software") and not isinstance(source, PacketSource):
        source.close()
        shown = redact(without_secrets(options["url"]))
        raise SourceError(
            "settings", f"{shown}: decoding: {wanted} is for video files and network streams; leave it out here"
        )
    if isinstance(source, VideoSource):
        source.why_software = why or "not a video file or network stream"
    return source


def _open(options: dict[str, Any], packets: bool, waiting: Callable[[], None]) -> Source:
    """packets  where the source can, read it by PyAV: to rest, or to decode by a device"""
    url, kind = options["url"], kind_of(options["url"])
    if kind == "synthetic":
        return StreetSource(url)
    if kind == "webcam":
        return VideoSource(int(url) if url.isdigit() else url, options, "webcam")
    if kind == "file":
        file = find_file(url)
        if not file.fifo:
            if packets and "start_number" not in file.options:
                return PacketSource(file.target, options, file)
            return VideoSource(file.target, options, "video file", file)
        descriptor = _when_written(file.fifo, waiting)
        try:
            return VideoSource(f"pipe:{descriptor}", options, "video file", file)
        except SourceError:
            os.close(descriptor)
            raise
    doubt, fatal = advice(url)
    if kind == "unknown":
        known, hint = "expected a file, rtsp, http or synthetic", f"; {doubt or ENCODE}" if doubt or "@" in url else ""
        raise SourceError("not_found", f"{without_secrets(url)}: unknown kind of URL; {known}{hint}")
    if fatal:
        raise SourceError("settings", f"{without_secrets(url)}: {doubt}")
    return PacketSource(address_of(url), options, None) if packets else VideoSource(address_of(url), options, "stream")


def _when_written(path: str, waiting: Callable[[], None]) -> int:
    """A descriptor of a FIFO that has something to read. (FFmpeg's own opening would block without a sign of life, and
    what a writer left that is gone already would be lost.)"""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not any(event & select.POLLIN for _, event in poll.poll(200)):
        waiting()
        time.sleep(0.02)  # once a writer was there, a pipe without one is always ready
    os.set_blocking(descriptor, True)
    return descriptor


class VideoSource(Source):
    why_software = ""

    def __init__(self, target: str | int, options: dict[str, Any], what: str, file: LocalFile | None = None) -> None:
        if what == "webcam":
            self._capture = cv2.VideoCapture(target, *([] if isinstance(target, int) else [cv2.CAP_V4L2]))
        else:
            settings = [cv2.CAP_PROP_N_THREADS, 1]  # of the decoder; cameras share the machine
            ffmpeg = file.options if file else ""
            if what == "stream":
                # The stream kills us at the deadlines; these are for the case that it is busy. (FFmpeg gives one more
                # frame out of its buffers when it times out, which would look like a sign of life.)
                settings += [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(options["open_timeout_s"] * 2000),
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(options["read_timeout_s"] * 2000),
                ]  # fmt: skip
                if options["transport"] != "auto" and str(target).startswith("rtsp"):
                    ffmpeg = f"rtsp_transport;{options['transport']}"
            # With the default backend choice the timeouts would be ignored, and a dead server costs 30 s.
            self._capture = open_with_ffmpeg(str(target), ffmpeg, settings)
        self._descriptor = int(str(target).partition(":")[2]) if file and file.fifo else None
        if not self._capture.isOpened():
            self._capture.release()
            doubt = f"; {advice(str(target))[0]}".rstrip("; ") if what == "stream" else ""
            raise SourceError(
                "", f"{redact(without_secrets(options['url']))}: cannot be opened as a {what}; is it there, and "
                f"readable?{doubt}"
            )  # fmt: skip
        self.gap = file.gap if file else ""
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = float(fps) if math.isfinite(fps) and 0 < fps <= 240 else 0.0
        # The count is exact or the duration times this rate, however odd the rate of a file is.
        known = file is not None and not file.fifo and math.isfinite(count) and 0 < count < 1e9 and fps > 0
        self.announced_s = count / fps if known else 0.0

    def grab(self) -> bool:
        return self._capture.grab()

    def decoder(self) -> str:
        return f"software ({self.why_software})"

    def retrieve(self) -> np.ndarray | None:
        ok, image = self._capture.retrieve()
        return image if ok and image is not None and image.ndim == 3 and image.size else None

    def stream_s(self) -> float | None:
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return round(position / 1000, 3) if math.isfinite(position) and position >= 0 else None

    def close(self) -> None:
        self._capture.release()
        if self._descriptor is not None:
            os.close(self._descriptor)  # FFmpeg leaves it open


class StreetSource(Source):
    """The synthetic street as a camera; the pace is given by its `fps`."""

    def __init__(self, url: str) -> None:
        from personsearch.core.errors import CameraError
        from personsearch.core.street.street import parse_street_url, street_of

        try:
            self.url = parse_street_url(url)
            self.street = street_of(self.url)
        except CameraError as error:
            raise SourceError("not_found", str(error)) from None
        self.fps, self.announced_s, self.gap, self._next = self.url.fps, 0.0, "", 0

    def grab(self) -> bool:
        if self.url.frames and self._next >= self.url.frames:
            return False
        self._next += 1
        return True

    def retrieve(self) -> np.ndarray | None:
        return self.street.frame(self.url.camera, self._next - 1).image

    def stream_s(self) -> float | None:
        return (self._next - 1) / self.url.fps

    def close(self) -> None:
        pass
