"""Does anything move? A cheap answer for every frame of a camera, so that empty scenes are not analysed.

The frame is shrunk to 320 columns of grey and compared with a running background. A pixel has changed if it differs
by more than its own noise, which is learnt (sensor noise, compression, leaves), after the change that the whole
picture shares is taken off (clouds, exposure). Something moves if enough neighbours changed together, a spot the size
of a distant person, and are not as they were a moment ago: what somebody left behind, or where he stood for long, is
no motion. If most of the picture changed, the scene is a new one, and the background begins anew.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np

WIDTH = 320  # columns of the small picture; people whom the network can find are at least 10 of its rows high
LEAST, NOISE = 7.0, 4.5  # grey levels, and multiples of a pixel's mean deviation, that are no noise
PATCH, SHARE = 5, 0.4  # of the pixels in a square of this side must have changed
NEW_SCENE = 0.45  # of all pixels changed at once: another view or exposure
JUMP = 25.0  # grey levels by which the whole picture became lighter or darker at once
STANDS_S = 10.0  # time constant of the picture as it was a moment ago
LEARN_S, ABSORB_S = 4.0, 30.0  # time constants of the background: where nothing changed, and where something stands
FIRST_NOISE, MOST_NOISE = 2.0, 9.0  # a pixel that differs by 40 grey levels has changed, whatever happens there
REST_AFTER_S = 8.0  # without motion, and without anybody who is followed, after which a source may rest
AFTER_S = 2.0  # frames are still looked at for so long after something moved: a track needs a few to be sure
Verdict = Literal["still", "moving", "new"]
Zone = Sequence[float]  # x, y, width, height as shares of a picture


class MotionDetector:
    """Of one camera. `see` costs a few hundred microseconds and keeps four pictures of 320 columns."""

    def __init__(self, ignored: Sequence[Zone] = ()) -> None:
        """ignored  parts of the picture where nothing counts as motion, as shares of it; they may reach beyond it"""
        self._ignored = ignored
        self._background: np.ndarray | None = None  # float32 (h, w)
        self._noise = np.empty(0, np.float32)  # float32 (h, w), mean absolute deviation
        self._lately = np.empty(0, np.float32)  # float32 (h, w)
        self._moment = 0.0

    def see(self, image: np.ndarray, moment: float) -> Verdict:
        """image  uint8 (h, w, 3) BGR
        moment  its time in seconds

        `new` for the first frame and after the whole scene has changed."""
        grey = small(image)
        passed, self._moment = min(1.0, max(0.0, moment - self._moment)), moment
        verdict, deviation, changed = self._compare(grey)
        if verdict == "new":
            self._background, self._noise = grey, np.full_like(grey, FIRST_NOISE)
            self._lately = grey.copy()
        else:
            self._learn(grey, deviation, changed, passed)
        return verdict

    def peek(self, image: np.ndarray) -> Verdict:
        """What `see` would say of the picture, which is not learnt from."""
        return self._compare(small(image))[0]

    def _compare(self, grey: np.ndarray) -> tuple[Verdict, np.ndarray, np.ndarray]:
        """The verdict, by how much each pixel (h, w) deviates, and uint8 (h, w) which of them have changed."""
        if self._background is None or self._background.shape != grey.shape:
            return "new", grey, grey
        deviation, shared = _deviation(grey, self._background)
        most_noise = np.clip(NOISE * self._noise, LEAST, NOISE * MOST_NOISE)
        changed = cv2.compare(deviation, most_noise, cv2.CMP_GT)
        if abs(shared) > JUMP or cv2.countNonZero(changed) > NEW_SCENE * changed.size:
            return "new", deviation, changed
        if not self._together(changed):  # most frames of a still scene need no second comparison
            return "still", deviation, changed
        lately, _ = _deviation(grey, self._lately)
        moved = cv2.bitwise_and(changed, cv2.compare(lately, most_noise, cv2.CMP_GT))
        return "moving" if self._together(moved) else "still", deviation, changed

    def _together(self, changed: np.ndarray) -> bool:
        """Whether enough neighbours changed outside of the ignored zones. changed  uint8 (h, w), 0 or 255"""
        counted = changed.copy() if self._ignored else changed
        for zone in self._ignored:
            blank(counted, zone)
        together = cv2.blur(counted, (PATCH, PATCH), borderType=cv2.BORDER_CONSTANT)
        return bool(together.max() >= 255 * SHARE)

    def _learn(self, grey: np.ndarray, deviation: np.ndarray, changed: np.ndarray, passed: float) -> None:
        """The background follows the picture, and so does the noise: quickly where nothing changed, slowly where
        something did, as in leaves."""
        assert self._background is not None
        quiet = cv2.bitwise_not(changed)
        cv2.accumulateWeighted(grey, self._background, min(1.0, passed / LEARN_S), mask=quiet)
        cv2.accumulateWeighted(grey, self._background, min(1.0, passed / ABSORB_S), mask=changed)
        cv2.accumulateWeighted(deviation, self._noise, min(1.0, passed / LEARN_S), mask=quiet)
        cv2.accumulateWeighted(deviation, self._noise, min(1.0, passed / ABSORB_S), mask=changed)
        cv2.accumulateWeighted(grey, self._lately, min(1.0, passed / STANDS_S))


class MotionGate:
    """Which frames of a camera are analysed: all while something moves, and in the first two seconds after; else, as
    often as the stream says, those of people who are followed; else one now and then, because whoever stands still from
    the first frame on does not move."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """options  the camera's settings: `name`, `ignore` and `region`"""
        self.on, self.look_every_s, self.watch_every_s = False, 2.0, math.inf  # as the stream says; see Tracker
        self.look = False  # the latest frame let through is a look at a still scene
        self._detector = MotionDetector(within(options["ignore"], options["region"]))
        self._until = self._looked = self._analysed = self._stirred = -math.inf
        # Cameras that became still together, as at a start, are not looked at together: the first look comes earlier.
        self._early = zlib.crc32(options["name"].encode()) / 2**32

    def opens(self, image: np.ndarray, moment: float) -> bool:
        """Whether this frame is to be analysed. Frames must come in the order of their moments."""
        if not self.on:
            self.look = False
            return True
        if self._detector.see(image, moment) != "still":
            self._until = moment + AFTER_S
        if self._followed:
            self._stirred = moment
        passed = moment - self._analysed
        lively = moment <= self._until or (self._followed and passed >= min(self.watch_every_s, self.look_every_s))
        self.look = not lively and not self._followed and moment - self._looked >= self.look_every_s
        if not lively and not self.look:
            return False
        self._analysed = moment
        self._looked = moment if self.look else moment - self._early * self.look_every_s
        return True

    def quiet(self, moment: float) -> bool:
        """Whether nothing has moved for so long that the source may rest."""
        latest = max(self._until - AFTER_S, self._stirred)
        return self.on and not self._followed and -math.inf < latest <= moment - REST_AFTER_S

    @property
    def _followed(self) -> bool:
        return self.watch_every_s < math.inf

    def stirs(self, image: np.ndarray) -> bool:
        """Whether this picture, the first after some that were left out, shows a change."""
        return self._detector.peek(image) != "still"


def _deviation(grey: np.ndarray, usual: np.ndarray) -> tuple[np.ndarray, float]:
    """By how much each pixel (h, w) differs, less what the whole picture shares; and that."""
    difference = cv2.subtract(grey, usual)
    shared = float(np.median(difference[::4, ::4]))
    return cv2.absdiff(difference, shared), shared  # type: ignore[call-overload]


def within(zones: Sequence[Zone], region: Zone | None) -> list[Zone]:
    """Zones as shares of the picture -> as shares of the region that is cut out of it."""
    x, y, w, h = region or (0.0, 0.0, 1.0, 1.0)
    return [((zx - x) / w, (zy - y) / h, zw / w, zh / h) for zx, zy, zw, zh in zones]


def blank(changed: np.ndarray, zone: Zone) -> None:
    height, width = changed.shape
    x, y, w, h = zone
    left, right = (round(width * min(1.0, max(0.0, edge))) for edge in (x, x + w))
    top, bottom = (round(height * min(1.0, max(0.0, edge))) for edge in (y, y + h))
    changed[top:bottom, left:right] = 0


def small(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) BGR -> float32 (h', 320) grey. Of large pictures every n-th pixel is taken, so that four are left
    for each: to read all of them takes six times as long, more than everything else together."""
    height, width = image.shape[:2]
    rows = max(1, round(height * WIDTH / width))
    if width > 2 * WIDTH:
        image = cv2.resize(image, (2 * WIDTH, 2 * rows), interpolation=cv2.INTER_NEAREST)
    shrunk = cv2.resize(image, (WIDTH, rows), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(shrunk, cv2.COLOR_BGR2GRAY).astype(np.float32)
