"""Annotated video per camera, only when asked for: boxes of all tracks, names of the matched ones."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import UserError
from personsearch.core.tracker import Track
from personsearch.runtime.frames import Frame
from personsearch.runtime.matching import Match

log = logging.getLogger("personsearch.recorder")
GREY, GREEN = (160, 160, 160), (60, 200, 60)


class Recorder:
    """Writes DIR/CAMERA.avi (motion JPEG: every player knows it, and a crash keeps the frames written so far)."""

    def __init__(self, folder: str | Path, fps: float = 10.0, min_free_mb: float = 0) -> None:
        """min_free_mb  recording pauses while the disk has less room: pictures go first, events and enrolment last"""
        self.folder, self.fps, self.min_free_mb = Path(folder), fps, min_free_mb
        self.paused, self.left_out, self._next_look = False, 0, 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot record there ({error.strerror})") from None
        self._writers: dict[str, tuple[cv2.VideoWriter, tuple[int, int]]] = {}

    def write(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        if self._no_room():
            self.left_out += 1
            return
        image = annotate(frame.image, tracks, matches)
        size = (image.shape[1], image.shape[0])
        if frame.camera not in self._writers:
            path = str(self.folder / f"{frame.camera}.avi")
            writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), self.fps, size)
            if not writer.isOpened():
                raise UserError(f"{path}: cannot be written; is the disk full, or the folder read-only?")
            self._writers[frame.camera] = (writer, size)
        writer, first_size = self._writers[frame.camera]
        writer.write(image if size == first_size else cv2.resize(image, first_size))

    def _no_room(self) -> bool:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 0.5
            free = shutil.disk_usage(self.folder).free / 1e6
            # A little more must be free to go on than to stop, so that it does not flutter.
            paused = free < self.min_free_mb * (1.1 if self.paused else 1.0)
            if paused != self.paused:
                log.warning("recording %s: %.0f MB free in %s", "paused" if paused else "goes on", free, self.folder)
            self.paused = paused
        return self.paused

    def close(self) -> None:
        for writer, _ in self._writers.values():
            writer.release()


def annotate(image: np.ndarray, tracks: list[Track], matches: list[Match]) -> np.ndarray:
    """A copy of the frame with boxes; matched people in green with name and similarity."""
    image = image.copy()
    names = {m.track.number: f"{m.person} {m.similarity:.2f}" for m in matches}
    size = max(0.4, image.shape[0] / 1100)
    for track in sorted(tracks, key=lambda t: t.number in names):
        x1, y1, x2, y2 = (int(v) for v in track.box)
        colour = GREEN if track.number in names else GREY
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, max(1, round(size * 2)))
        label = names.get(track.number, str(track.number))
        (w, h), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        top = max(h + 4, y1)
        left = max(0, min(x1, image.shape[1] - w - 4))  # a label at the right edge stays readable
        cv2.rectangle(image, (left, top - h - 4), (left + w + 4, top), colour, -1)
        cv2.putText(image, label, (left + 2, top - 3), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return image
