"""Where frames come from: video files, webcams, network streams and the synthetic street."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np

from personsearch.core.errors import CameraError
from personsearch.core.street import parse_street_url, street_of
from personsearch.runtime.settings import CameraSettings

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "tcp")


class Source(Protocol):
    fps: float  # nominal rate, 0 = unknown
    live: bool  # frames come when they come; a file is paced by us

    def read(self) -> np.ndarray | None:
        """The next frame, or None at the end or on a broken stream."""

    def close(self) -> None: ...


def open_source(camera: CameraSettings) -> Source:
    """Raises CameraError with a message that holds no password."""
    url = camera.url
    if url.startswith("synthetic:"):
        return StreetSource(url)
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme in NETWORK_SCHEMES:
        return VideoSource(url, camera, live=True)
    if re.fullmatch(r"\d{1,3}", url):
        return VideoSource(int(url), camera, live=True)
    path = Path(url.removeprefix("file://"))
    if scheme not in ("", "file"):
        raise CameraError(
            f"camera {camera.name}: unknown kind of URL '{scheme}://'; expected a file, rtsp, http or synthetic"
        )
    if not path.is_file():
        raise CameraError(f"camera {camera.name}: {path}: no such file; give a video file, a webcam number or a URL")
    return VideoSource(str(path), camera, live=False)


def is_network(url: str) -> bool:
    return "://" in url and url.split("://", 1)[0].lower() in NETWORK_SCHEMES


def without_secrets(url: str) -> str:
    """The URL without user, password and query, for logs and events."""
    if "://" not in url or not is_network(url):
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class VideoSource:
    def __init__(self, target: str | int, camera: CameraSettings, live: bool) -> None:
        self.live = live
        shown = without_secrets(str(target))
        if isinstance(target, int):
            self._capture = cv2.VideoCapture(target)
        else:
            timeouts = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(camera.open_timeout_s * 1000),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(camera.read_timeout_s * 1000),
            ]  # fmt: skip
            # With the default backend choice the timeouts would be ignored, and a dead server costs 30 s.
            self._capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, timeouts)
        if not self._capture.isOpened():
            self._capture.release()
            what = "webcam" if isinstance(target, int) else ("stream" if live else "video file")
            raise CameraError(
                f"camera {camera.name}: {shown}: cannot be opened as a {what}; is it there, and readable?"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 240 else 0.0

    def read(self) -> np.ndarray | None:
        ok, image = self._capture.read()
        return image if ok else None

    def close(self) -> None:
        self._capture.release()


class StreetSource:
    """The synthetic street as a camera; the pace is given by its `fps`."""

    live = False

    def __init__(self, url: str) -> None:
        self.url = parse_street_url(url)
        self.street = street_of(self.url)
        self.fps, self._number = self.url.fps, 0

    def read(self) -> np.ndarray | None:
        if self.url.frames and self._number >= self.url.frames:
            return None
        frame = self.street.frame(self.url.camera, self._number)
        self._number += 1
        return frame.image

    def close(self) -> None:
        pass
