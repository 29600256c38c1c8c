"""Videos for training, enrolment and export, where a bad one is an error of the user. (Cameras: runtime/cameras.)"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from personsearch.core.errors import DataError
from personsearch.core.redaction import redact, remember_url
from personsearch.core.stream_clock import StreamClock
from personsearch.core.video_files import LocalFile, SourceError, find_file

USUAL_FPS = 25.0
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class Picture(NamedTuple):
    number: int  # of the frame
    seconds: float  # since the beginning, by the file's presentation times
    image: np.ndarray  # uint8 (h, w, 3) BGR


def open_with_ffmpeg(target: str, options: str = "", settings: Sequence[int] = ()) -> cv2.VideoCapture:
    """options   for FFmpeg: key;value|key;value; OpenCV takes them from the environment, where they do not stay
    settings  OpenCV's own: property, value, property, value, ..."""
    before = os.environ.pop(_OPTIONS, None)
    try:
        if options or before:
            os.environ[_OPTIONS] = options or before or ""
        return cv2.VideoCapture(target, cv2.CAP_FFMPEG, list(settings))
    finally:
        os.environ.pop(_OPTIONS, None)
        if before is not None:
            os.environ[_OPTIONS] = before


class Video:
    """An open file, numbered pictures, webcam (`0` to `999`) or stream, named as in cams.yaml. Raises DataError,
    without a password, if it cannot be opened.

    fps     nominal rate, 0 = unknown
    frames  how many it claims to have, 0 = unknown
    gap     what is missing in numbered pictures, in a sentence; else empty
    """

    def __init__(self, source: str) -> None:
        stream = "://" in source and not source.lower().startswith("file:")
        remember_url(source)
        self.name = redact(source)
        webcam = re.fullmatch(r"[0-9]{1,3}", source) is not None
        try:
            file = LocalFile(source) if stream or webcam else find_file(source)
        except SourceError as error:
            raise DataError(str(error)) from None
        except (UnicodeError, ValueError):  # a name that is not text, or holds a zero
            raise DataError(f"{self.name!a}: cannot be opened as a video") from None
        self.gap = file.gap
        try:
            self._capture = cv2.VideoCapture(int(source)) if webcam else open_with_ffmpeg(file.target, file.options)
        except (cv2.error, UnicodeError, TypeError):
            raise DataError(f"{self.name!a}: cannot be opened as a video") from None
        if not self._capture.isOpened():
            raise DataError(f"{self.name}: cannot be opened as a video; give a file, a webcam number or a stream URL")
        fps = self._number(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 240 else 0.0
        count = self._number(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if 0 < count < 1e9 else 0

    def _number(self, what: int) -> float:
        value = self._capture.get(what)
        return float(value) if math.isfinite(value) else 0.0

    def every(self, step: int) -> Iterator[Picture]:
        """Every `step`-th frame; those that cannot be decoded are left out."""
        number, clock = 0, StreamClock(1 / (self.fps or USUAL_FPS))
        try:
            while self._capture.grab():
                seconds = clock.advance(self._number(cv2.CAP_PROP_POS_MSEC) / 1000)
                if number % step == 0:
                    good, image = self._capture.retrieve()
                    if good and image is not None and image.ndim == 3 and image.size:
                        yield Picture(number, seconds, image)
                number += 1
        except cv2.error as error:
            raise DataError(f"{self.name}: frame {number} cannot be decoded ({error.err or error})") from None
        finally:
            self._capture.release()
