"""A person of the analysed stream, found again in the camera's main stream: the frame of the same time, the same box.

Clocks are not believed blindly. Of the frames at about the wanted time the one is taken that looks most like what was
analysed, in grey and at its size; where none does, the answer is none, so that nobody is described as somebody
who stands there a moment later. How far one stream is behind the other is learnt on the way from people who move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from personsearch.core.cut_out import CutOut, cut
from personsearch.runtime.cameras.kept_packets import MainStream
from personsearch.runtime.cameras.packets import upright

REFERENCE = 64  # rows at most of the analysed stream's picture that frames are compared with
ALIKE = 0.8  # correlation of the two pictures, from which they show the same
TELLING = 0.03  # the best frame is so much more like it than the middle one: somebody moves, and the time is known
LEAST_TOLD, MOST_TOLD = 4, 31  # frames whose time is known, from which the streams' offset is learnt
UNKNOWN_S = 0.4  # more on both sides while the offset of two network streams is not known
WAIT_S = 0.4  # for frames of a network stream that are still to come
CLOCKS_AGREE_S = 0.5  # a camera's clock may be wrong, but then it is as wrong in both streams
SHAPES_AGREE = 0.03  # relative difference of the aspect ratios of two streams with the same view


@dataclass(frozen=True)
class Question:
    """clocks  when the analysed frame was taken, by name of the clock
    corners   (4,) xyxy of the wanted part, in shares of the upright picture
    box       (4,) of the person, likewise
    size      (width, height) of the upright picture of the analysed stream"""

    clocks: Mapping[str, float]
    corners: np.ndarray
    box: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """`cause` is empty, none (no frame at that time), differs (none that looks like it) or shape (see `reason`)."""

    view: CutOut | None
    cause: str = ""
    reason: str = ""


class DetailViews:
    """Answers questions about one main stream. `within_s`: so far a frame's time may be from the wanted one."""

    def __init__(self, stream: MainStream, within_s: float, rotate: int) -> None:
        self.stream, self.within_s, self.rotate = stream, within_s, rotate
        self._offsets: dict[str, deque[float]] = {}  # by which frames of known time were later, by clock

    def answer(self, question: Question, reference: np.ndarray) -> Answer:
        """reference  uint8 (h, w) grey: the wanted part in the analysed stream (see `reference_of`)"""
        if refusal := self.shape_refusal(question.size):
            return Answer(None, "shape", refusal)
        clock, seconds = self._when(question.clocks)
        if not clock:
            return Answer(None, "none")
        learnt = self._offset(clock)
        sure = clock == "file" or learnt is not None
        reach = 0.0 if clock == "file" else self.within_s if sure else self.within_s + UNKNOWN_S
        wanted = seconds + (learnt or 0.0)
        frames = self.stream.near(wanted, reach, WAIT_S)
        frames = [(at, frame) for at, frame in frames if abs(at - wanted) <= max(reach, self.within_s)]
        if not frames:
            return Answer(None, "none")
        likeness = [self._likeness(frame, question.corners, reference) for _, frame in frames]
        best = int(np.argmax(likeness))
        if likeness[best] < ALIKE:
            return Answer(None, "differs")
        if likeness[best] - float(np.median(likeness)) > TELLING:
            self._offsets.setdefault(clock, deque(maxlen=MOST_TOLD)).append(frames[best][0] - seconds)
        elif sure:  # nobody moves: by time
            best = int(np.argmin([abs(at - wanted) for at, _ in frames]))
        image = upright(frames[best][1], "bgr24", self.rotate)
        scale = np.tile([image.shape[1], image.shape[0]], 2)
        view = cut(image, question.corners * scale, question.box * scale)
        return Answer(view, "" if view is not None else "none")

    def shape_refusal(self, size: tuple[int, int]) -> str:
        """Why two streams cannot show the same view, in a sentence; empty if they may."""
        width, height = self.stream.size if self.rotate in (0, 180) else self.stream.size[::-1]
        return shape_refusal((width, height), size)

    def _when(self, clocks: Mapping[str, float]) -> tuple[str, float]:
        """The best clock that both streams have, and the wanted time in the main stream's own seconds."""
        if self.stream.times is None:
            return ("file", self.stream.begin + clocks["file"]) if "file" in clocks else ("", 0.0)
        offsets = self.stream.times.offsets()
        names = [name for name in ("camera", "arrival") if name in clocks and name in offsets]
        both = {name: clocks[name] - offsets[name] for name in names}
        if "camera" in both and abs(both["camera"] - both.get("arrival", both["camera"])) > CLOCKS_AGREE_S:
            both.pop("camera")
        return next(iter(both.items()), ("", 0.0))

    def _offset(self, clock: str) -> float | None:
        told = self._offsets.get(clock, ())
        return float(np.median(told)) if len(told) >= LEAST_TOLD else None

    def _likeness(self, frame: Any, corners: np.ndarray, reference: np.ndarray) -> float:
        """Correlation of grey levels, -1 to 1."""
        grey = upright(frame, "gray", self.rotate)
        part = cut(grey, corners * np.tile([grey.shape[1], grey.shape[0]], 2), np.zeros(4))
        if part is None:
            return -1.0
        small = cv2.resize(part.picture, reference.shape[::-1], interpolation=cv2.INTER_AREA)
        return float(cv2.matchTemplate(small, reference, cv2.TM_CCOEFF_NORMED)[0, 0])


def reference_of(picture: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) BGR -> uint8 (h', w') grey of at most 64 rows."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    scale = min(1.0, REFERENCE / grey.shape[0])
    size = (max(2, round(grey.shape[1] * scale)), max(2, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale < 1 else grey


def shape_refusal(main: tuple[int, int], size: tuple[int, int]) -> str:
    """main, size  (width, height) of the main stream's and of the analysed stream's picture"""
    if abs(main[0] * size[1] / (main[1] * size[0]) - 1) <= SHAPES_AGREE:
        return ""
    return (
        f"detail_url gives {main[0]}x{main[1]} and url {size[0]}x{size[1]}: not the same shape, so a place in one is "
        "none in the other; set both to one aspect ratio in the camera"
    )
