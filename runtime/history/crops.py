"""The best small picture of everybody in sight, kept in memory until the visit ends; only with `history.crops`."""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame

HEIGHT, QUALITY = 160, 80  # pixels; of JPEG: 3 to 6 kB
MARGIN = 0.05  # of the box
BETTER, EVERY_S = 1.2, 0.5  # so much better, and not more often, replaces a picture
MOST_PEOPLE, LOOK_EVERY_S = 2000, 5.0


@dataclass
class _Picture:
    jpeg: bytes
    worth: float
    moment: float


class BestPictures:
    """Used from the pipeline's thread: a picture costs a tenth of a millisecond, and few are taken."""

    def __init__(self, root: Path, min_free_mb: float) -> None:
        self.root, self.min_free_mb = root, min_free_mb
        self._pictures: OrderedDict[tuple[str, int], _Picture] = OrderedDict()
        self._room, self._next_look = True, 0.0

    def see(self, frame: Frame, tracks: list[Track]) -> None:
        if not self._enough_room():
            return
        for track in tracks:
            if not track.confirmed or track.low:
                continue
            key, box = (frame.camera, track.number), track.box
            worth = float((box[2] - box[0]) * (box[3] - box[1])) * track.score * (1 - track.covered)
            known = self._pictures.get(key)
            if known is not None and (worth < BETTER * known.worth or frame.moment - known.moment < EVERY_S):
                continue
            jpeg = cut_out(frame.image, box)
            if jpeg:
                self._pictures[key] = _Picture(jpeg, worth, frame.moment)
                self._pictures.move_to_end(key)
        while len(self._pictures) > MOST_PEOPLE:
            self._pictures.popitem(last=False)

    def take(self, camera: str, track: int) -> bytes:
        """The picture of a track, which is forgotten here; empty if there is none."""
        found = self._pictures.pop((camera, track), None)
        return found.jpeg if found is not None else b""

    def _enough_room(self) -> bool:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            self._room = shutil.disk_usage(self.root).free / 1e6 >= self.min_free_mb
        return self._room


def cut_out(image: np.ndarray, box: np.ndarray) -> bytes:
    """The person at `box` (4,) xyxy as a small JPEG; empty if nothing of the box lies in the picture."""
    height, width = image.shape[:2]
    margin = MARGIN * (box[3] - box[1])
    x1, y1 = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(box[2:] + margin), [width, height]).astype(int)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return b""
    picture = image[y1:y2, x1:x2]
    if picture.shape[0] > HEIGHT:
        size = (max(2, round(picture.shape[1] * HEIGHT / picture.shape[0])), HEIGHT)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
