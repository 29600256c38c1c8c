"""One H.264 video in fragmented MP4: what was written until a second ago plays, while it grows and after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.core.errors import UserError

FRAGMENT_S = 1.0  # a fragment is whole when the next key frame comes
TICKS = Fraction(1, 1000)  # milliseconds: pictures come when they come
MP4 = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
X264 = {"preset": "superfast", "tune": "zerolatency", "crf": "28", "threads": "1"}


def load_encoder() -> Any:
    """PyAV. Raises UserError where it is not installed."""
    try:
        import av
    except ImportError:
        raise UserError("recording needs the package av; install personsearch[record]") from None
    return av


class VideoFile:
    """A new file, which is never one that is there already. While it is written it is locked: nobody rotates it away.

    Raises OSError, as `write` does, if the disk refuses.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        """size  (width, height) in pixels; H.264 wants them even, so a last row and column may be cut off"""
        self.av = load_encoder()
        self.size = size[0] // 2 * 2, size[1] // 2 * 2
        self._key_at, self._tick = -FRAGMENT_S, -1
        self.path, self._file = _create(path)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            codec = "libx264" if "libx264" in self.av.codecs_available else "h264"
            self._container = self.av.open(self._file, "w", format="mp4", options=MP4)
            self._stream = self._container.add_stream(codec, rate=25, options=X264 if codec == "libx264" else {})
            self._stream.width, self._stream.height = self.size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = TICKS
            self._stream.codec_context.gop_size = 10_000  # key frames are ours to set
            self._stream.codec_context.max_b_frames = 0
        except BaseException:
            self._file.close()
            raise

    @property
    def written(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Add a picture, uint8 (h, w, 3) BGR, at so many seconds after the first."""
        width, height = self.size
        if image.shape[1] - width not in (0, 1) or image.shape[0] - height not in (0, 1):
            image = cv2.resize(image, self.size)  # the camera has changed its size
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="bgr24")
        self._tick = frame.pts = max(self._tick + 1, round(seconds / TICKS))
        frame.time_base = TICKS
        if seconds - self._key_at >= FRAGMENT_S:
            self._key_at = seconds
            frame.pict_type = self.av.video.frame.PictureType.I
        self._put(frame)

    def _put(self, frame: Any) -> None:
        """Encode a frame, or what is left where it is None."""
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self.av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from None

    def close(self) -> None:
        """Raises nothing: what is on the disk plays."""
        with contextlib.suppress(OSError, self.av.FFmpegError):
            self._put(None)
            self._container.close()
        self._file.close()


def _create(path: Path) -> tuple[Path, Any]:
    """A file of that name, or with a number where one is there."""
    number = 1
    while True:
        name = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            return name, open(name, "xb", buffering=0, opener=lambda n, flags: os.open(n, flags, 0o600))
        except FileExistsError:
            number += 1
