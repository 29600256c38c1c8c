"""Where frames come from: video files, webcams, network streams and the synthetic street. Runs in capture processes,
so it imports little."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from personsearch.runtime.urls import kind_of, without_secrets


class SourceError(Exception):
    """Opening failed. `cause` is one of refused, timeout, auth, not_found, codec."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Source(Protocol):
    fps: float  # nominal rate, 0 = unknown
    frames: int  # how many there are, 0 = unknown

    def grab(self) -> bool:
        """Go on to the next frame; False at the end, for a bad frame, and on a broken stream."""

    def retrieve(self) -> np.ndarray | None:
        """The frame grabbed last as uint8 (h, w, 3) BGR; None if it cannot be decoded."""

    def stream_s(self) -> float | None: ...

    def close(self) -> None: ...


def open_source(options: dict[str, Any]) -> Source:
    """options: the camera's settings as a dictionary, the url with its secrets. Raises SourceError without them."""
    url, kind = options["url"], kind_of(options["url"])
    if kind == "synthetic":
        return StreetSource(url)
    if kind == "webcam":
        return VideoSource(int(url), options, "webcam")
    if kind == "network":
        return VideoSource(url, options, "stream")
    if kind == "unknown":
        scheme = url.split("://", 1)[0]
        raise SourceError("not_found", f"unknown kind of URL '{scheme}://'; expected a file, rtsp, http or synthetic")
    path = Path(url.removeprefix("file://"))
    if not path.is_file():
        raise SourceError("not_found", f"{path}: no such file; give a video file, a webcam number or a URL")
    return VideoSource(str(path), options, "video file")


class VideoSource:
    def __init__(self, target: str | int, options: dict[str, Any], what: str) -> None:
        if isinstance(target, int):
            self._capture = cv2.VideoCapture(target)
        else:
            settings = [cv2.CAP_PROP_N_THREADS, 1]  # of the decoder; cameras share the machine
            if what == "stream":
                # The stream kills us at the deadlines; these are for the case that it is busy. (FFmpeg gives one more
                # frame out of its buffers when it times out, which would look like a sign of life.)
                settings += [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(options["open_timeout_s"] * 2000),
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(options["read_timeout_s"] * 2000),
                ]  # fmt: skip
                if options["transport"] != "auto" and target.startswith("rtsp"):
                    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"rtsp_transport;{options['transport']}"
            # With the default backend choice the timeouts would be ignored, and a dead server costs 30 s.
            self._capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, settings)
        if not self._capture.isOpened():
            self._capture.release()
            shown = without_secrets(str(target))
            raise SourceError("", f"{shown}: cannot be opened as a {what}; is it there, and readable?")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if math.isfinite(fps) and 0 < fps <= 240 else 0.0
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if what == "video file" and math.isfinite(count) and 0 < count < 1e9 else 0

    def grab(self) -> bool:
        return self._capture.grab()

    def retrieve(self) -> np.ndarray | None:
        ok, image = self._capture.retrieve()
        return image if ok and image is not None and image.ndim == 3 and image.size else None

    def stream_s(self) -> float | None:
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return round(position / 1000, 3) if math.isfinite(position) and position >= 0 else None

    def close(self) -> None:
        self._capture.release()


class StreetSource:
    """The synthetic street as a camera; the pace is given by its `fps`."""

    def __init__(self, url: str) -> None:
        from personsearch.core.errors import CameraError
        from personsearch.core.street import parse_street_url, street_of

        try:
            self.url = parse_street_url(url)
            self.street = street_of(self.url)
        except CameraError as error:
            raise SourceError("not_found", str(error)) from None
        self.fps, self.frames, self._next = self.url.fps, self.url.frames, 0

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
