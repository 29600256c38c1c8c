"""Single pictures out of recorded videos, for contact sheets; and what whoever reads videos with PyAV has to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.runtime.cameras.preparing import ROTATIONS
from personsearch.runtime.history.crops import cut_out

# By the angle that a frame's display matrix tells, counter-clockwise.
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
TOLERANCE_S = 0.001
MOST_S = 60.0  # of video that is decoded for one picture; key frames are nearer


def picture_of(frame: Any) -> np.ndarray:
    """uint8 (h, w, 3) BGR, upright: the same pixels as OpenCV's VideoCapture gives to a stream."""
    image: np.ndarray = frame.to_ndarray(format="bgr24")
    turn = TURNS.get(round(getattr(frame, "rotation", 0)) % 360)
    return image if turn is None else cv2.rotate(image, turn)


def time_of(thing: Any, stream: Any) -> float | None:
    """Of a packet or frame, in seconds from the stream's beginning; None if it has none."""
    pts = thing.pts if thing.pts is not None else thing.dts
    if pts is None:
        return None
    return float((pts - (stream.start_time or 0)) * stream.time_base)


def go_to(container: Any, stream: Any, seconds: float) -> None:
    """To the key frame at or before; a file that cannot be sought in is read from where it stands."""
    import av

    try:
        container.seek(round(seconds / stream.time_base) + (stream.start_time or 0), stream=stream, backward=True)
    except av.FFmpegError:
        container.seek(0)


def cut_from_video(video: str, seconds: float, box: np.ndarray, turned: int = 0) -> bytes:
    """The person at `box` (4,) xyxy as a small JPEG, from the picture of a local file at that time; empty if the file,
    or PyAV, is not there any more.

    turned  degrees that the camera's settings turn its pictures by
    """
    try:
        import av
    except ImportError:
        return b""
    if math.isnan(seconds) or not Path(video).is_file():
        return b""
    try:
        with av.open(f"file:{video}") as container:
            stream = container.streams.video[0]
            go_to(container, stream, seconds)
            for frame in container.decode(stream):
                moment = time_of(frame, stream)
                if moment is None or moment > seconds + MOST_S:
                    return b""
                if moment >= seconds - TOLERANCE_S:
                    image = picture_of(frame)
                    return cut_out(cv2.rotate(image, ROTATIONS[turned]) if turned else image, np.asarray(box))
    except (av.FFmpegError, OSError, LookupError):
        return b""
    return b""


def turns_of(settings: Mapping[str, Any]) -> dict[str, int]:
    """Camera -> degrees, from the settings that an index was made with."""
    cameras = (settings.get("settings") or {}).get("cameras") or ()
    return {camera["name"]: int(camera.get("rotate", 0)) for camera in cameras}
