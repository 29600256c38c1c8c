"""Pictures for programs on this box: frames, or people cut out of them, shrunk for whoever waits for them.

The pipeline's thread shrinks only what was asked for, once for all who ask for the same; JPEG is made elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.evidence import Decision, TrackEvidence
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.pipeline import Pipeline

log = logging.getLogger("personsearch.control")
MOST_WAITING, LONGEST_WAIT_S = 256, 30.0
CUT_MARGIN = 0.15  # around a person's box, of its size


@dataclass
class Question:
    """Somebody waits for the next frame of a camera."""

    envelope: list[bytes]
    number: int
    camera: str
    width: int  # 0: as analysed
    track: int | None  # only this person, cut out
    quality: int
    until: float  # monotonic


@dataclass
class Answer:
    """A picture on its way to the socket's thread: uint8 (h, w, 3) BGR of its own, for everybody who asked for it."""

    questions: list[Question]
    head: dict[str, Any]
    image: np.ndarray


@dataclass
class Pictures:
    """`see` runs in the pipeline's thread, the rest in the socket's. `wake` is called when answers are there."""

    pipeline: Pipeline
    wake: Callable[[], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[str, list[Question]] = field(default_factory=lambda: defaultdict(list))
    _ready: list[Answer] = field(default_factory=list)

    @property
    def asked(self) -> bool:
        """Does somebody wait?"""
        return any(list(self._waiting.values()))

    # --- in the pipeline's thread -------------------------------------------------------------------------------------

    def see(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        """A watcher of the pipeline: shrinks the frame for those who wait for it."""
        if not self._waiting.get(frame.camera):
            return
        try:
            self._answer(frame, tracks, matches)
        except Exception:  # whoever asked gets no picture; the watching goes on
            log.exception("a picture of %s could not be given", frame.camera)

    def _answer(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        with self._lock:
            asked = self._waiting.pop(frame.camera)
        alike: dict[tuple[int, int | None, int], list[Question]] = defaultdict(list)
        for question in asked:
            alike[question.width, question.track, question.quality].append(question)
        people, answers = people_of(frame, tracks, matches, self.pipeline.people.of(frame.camera).evidence), []
        for (width, track, _), questions in alike.items():
            part = _part(frame, tracks, track)
            if part is None:  # the person is not in this frame
                with self._lock:
                    self._waiting[frame.camera] += questions
                continue
            image, shows = part
            head = {
                "camera": frame.camera, "frame": frame.index, "time": iso_time(frame.wall), "shows": shows,
                "size": list(frame.picture_size), "people": people,
            }  # fmt: skip
            answers.append(Answer(questions, head, shrunk(image, width)))
        if answers:
            with self._lock:
                self._ready += answers
            self.wake()

    # --- in the socket's thread ---------------------------------------------------------------------------------------

    def ask(self, envelope: list[bytes], number: int, question: dict[str, Any]) -> None:
        """Raises ValueError, KeyError or TypeError for what is no question."""
        name, track = str(question["camera"]), question.get("track")
        width, quality = int(question.get("width", 640)), int(question.get("quality", 75))
        wait_s = min(LONGEST_WAIT_S, float(question.get("wait_s", 5.0)))
        if not 0 <= width <= 8192 or not 1 <= quality <= 100:
            raise ValueError("expected a width up to 8192 and a quality from 1 to 100")
        if all(camera.name != name for camera in list(self.pipeline.cameras)):
            raise ValueError(f"there is no camera '{name[:64]}'")
        with self._lock:
            if sum(map(len, self._waiting.values())) >= MOST_WAITING:
                raise ValueError("too many wait for pictures")
            until = time.monotonic() + wait_s
            wanted = None if track is None else int(track)
            self._waiting[name].append(Question(envelope, number, name, width, wanted, quality, until))

    def take(self) -> list[Answer]:
        """What is ready."""
        with self._lock:
            answers, self._ready = self._ready, []
        return answers

    def late(self, now: float) -> list[Question]:
        """Whose time is over; they wait no more."""
        late: list[Question] = []
        with self._lock:
            for name, questions in list(self._waiting.items()):
                late += [q for q in questions if q.until <= now]
                self._waiting[name] = [q for q in questions if q.until > now]
        return late


def people_of(
    frame: Frame, tracks: list[Track], matches: list[Match], evidence: dict[int, TrackEvidence]
) -> list[dict[str, Any]]:
    """Everybody in the frame: box [x, y, w, h] as shares of the upright picture, and who it is taken for."""
    named = {match.track.number: match.decision for match in matches}
    people, boxes = [], _shares(frame, np.array([track.box for track in tracks], np.float32).reshape(-1, 4))
    for track, box in zip(tracks, boxes, strict=True):
        decision = named.get(track.number)
        state = "recognised" if decision is not None else "unknown"
        if decision is None and track.number in evidence:
            decision = evidence[track.number].decision
            state = "possible" if decision.state == "possible" else "unknown"
        person: dict[str, Any] = {
            "track": track.number, "box": box, "state": state, "score": round(track.score, 3),
        }  # fmt: skip
        people.append(person | (_guess(decision) if decision is not None and state != "unknown" else {}))
    return people


def _guess(decision: Decision) -> dict[str, Any]:
    return {
        "person": decision.person, "similarity": round(decision.similarity, 3),
        "log_likelihood_ratio": round(decision.log_likelihood_ratio, 2),
        "false_names_per_day": float(f"{decision.false_names_per_day:.3g}"), "views": decision.views,
    }  # fmt: skip


def _part(frame: Frame, tracks: list[Track], number: int | None) -> tuple[np.ndarray, list[float]] | None:
    """The frame, or the person cut out of it, and what that shows: [x, y, w, h] as shares of the upright picture."""
    height, width = frame.image.shape[:2]
    if number is None:
        return frame.image, _shares(frame, np.array([[0, 0, width, height]], np.float32))[0]
    track = next((t for t in tracks if t.number == number), None)
    if track is None:
        return None
    margin = CUT_MARGIN * (track.box[2:] - track.box[:2])
    x1, y1 = np.maximum(np.floor(track.box[:2] - margin), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(track.box[2:] + margin), [width, height]).astype(int)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    return frame.image[y1:y2, x1:x2], _shares(frame, np.array([[x1, y1, x2, y2]], np.float32))[0]


def _shares(frame: Frame, boxes: np.ndarray) -> list[list[float]]:
    """xyxy in pixels of the image (N, 4) -> [x, y, w, h] as shares of the upright picture."""
    shares = (frame.to_picture(boxes) / np.tile(frame.picture_size, 2)).tolist()
    return [[round(x1, 5), round(y1, 5), round(x2 - x1, 5), round(y2 - y1, 5)] for x1, y1, x2, y2 in shares]


def shrunk(image: np.ndarray, width: int) -> np.ndarray:
    """A copy, at most so many pixels wide (0: as it is): the frame's memory is the camera's again soon.

    From four neighbours each, which leave little out down to a third; what shall be smaller is halved by area first,
    which is quick for even sides. All by area, 1920 to 640 pixels take twice as long, and 1280 to 480 eight times.
    """
    height, given = image.shape[:2]
    if not width or given <= width:
        return image.copy()
    size = (width, max(1, round(height * width / given)))
    if given >= 3 * width and not given % 2 and not height % 2:
        image = cv2.resize(image, (given // 2, height // 2), interpolation=cv2.INTER_AREA)
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
