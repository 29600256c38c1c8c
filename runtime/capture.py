"""One thread per camera reads frames at the source's rate; the pipeline takes the newest one."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from personsearch.core.errors import CameraError
from personsearch.runtime.settings import CameraSettings
from personsearch.runtime.sources import Source, is_network, open_source, without_secrets

log = logging.getLogger("personsearch.capture")
FIRST_RETRY_S, LAST_RETRY_S, HEALTHY_S = 0.5, 30.0, 60.0
FILES_RATE_WITHOUT_FPS = 25.0


@dataclass
class Frame:
    camera: str
    image: np.ndarray  # (h, w, 3) uint8 BGR
    index: int  # 0-based number of the frame within the stream
    wall: float  # seconds since the epoch when it was read
    monotonic: float  # seconds, for durations


@dataclass
class Counters:
    captured: int = 0
    taken: int = 0
    dropped: int = 0  # a newer frame came before the pipeline took this one
    opened: int = 0
    failures: int = 0


class Camera:
    """Reads in a thread of its own. `state` is one of starting, online, offline, ended."""

    def __init__(
        self, settings: CameraSettings, ready: threading.Condition, report: Callable[[str, str, str], None]
    ) -> None:
        """ready   notified for every new frame and at the end
        report  called with the camera's name, the new state and a reason"""
        self.settings, self.name = settings, settings.name
        self.counters, self.state, self.reason = Counters(), "starting", ""
        self._ready, self._report = ready, report
        self._latest: Frame | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{settings.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        with self._ready:
            self._ready.notify_all()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def take(self) -> Frame | None:
        """The newest frame that nobody has taken yet. Call with the condition held."""
        frame, self._latest = self._latest, None
        if frame is not None:
            self.counters.taken += 1
            self._ready.notify_all()
        return frame

    @property
    def done(self) -> bool:
        """Ended, and its last frame taken."""
        return self.state == "ended" and self._latest is None

    # --- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        index, delay = 0, FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                source = open_source(self.settings)
            except CameraError as error:
                self._become("offline", str(error))
                if not is_network(self.settings.url) and self.counters.opened == 0:
                    break  # a missing file does not appear by waiting
                delay = self._back_off(delay)
                continue
            except Exception as error:
                log.exception("camera %s: opening failed", self.name)
                self._become("offline", type(error).__name__)
                delay = self._back_off(delay)
                continue
            self.counters.opened += 1
            self._become("online", "")
            began = time.monotonic()
            try:
                index = self._read_all(source, index)
            finally:
                source.close()
            if self._stop.is_set() or (not source.live and self.settings.end == "stop"):
                break
            if source.live:
                self._become("offline", f"{without_secrets(self.settings.url)}: the stream broke off")
                delay = FIRST_RETRY_S if time.monotonic() - began > HEALTHY_S else delay
                delay = self._back_off(delay)
        self._become("ended", self.reason if self.state == "offline" else "")

    def _read_all(self, source: Source, index: int) -> int:
        """Read until the end, None or stop; gives the next frame's number."""
        start, number = time.monotonic(), 0
        rate = 0.0 if source.live or self.settings.pace == "fast" else (source.fps or FILES_RATE_WITHOUT_FPS)
        next_kept = 0.0
        while not self._stop.is_set():
            image = source.read()
            if image is None:
                break
            if rate:
                self._stop.wait(max(0.0, start + number / rate - time.monotonic()))
            number += 1
            self.counters.captured += 1
            now = time.monotonic()
            if self.settings.max_fps and now < next_kept:
                self.counters.dropped += 1
            else:
                next_kept = now + 1.0 / self.settings.max_fps - 1e-3 if self.settings.max_fps else 0.0
                self._offer(Frame(self.name, image, index, time.time(), now))
            index += 1
        return index

    def _offer(self, frame: Frame) -> None:
        with self._ready:
            if self.settings.pace == "fast":  # nothing is lost: wait until the pipeline has taken the last one
                while self._latest is not None and not self._stop.is_set():
                    self._ready.wait(0.2)
            if self._latest is not None:
                self.counters.dropped += 1
            self._latest = frame
            self._ready.notify_all()

    def _become(self, state: str, reason: str) -> None:
        if state == "offline":
            self.counters.failures += 1
        with self._ready:
            changed = state != self.state
            self.state, self.reason = state, reason
            self._ready.notify_all()
        if changed:
            self._report(self.name, state, reason)

    def _back_off(self, delay: float) -> float:
        """Wait a random part of the delay (full jitter), so that cameras behind one switch do not return in step."""
        self._stop.wait(random.uniform(0.1, delay))
        return min(LAST_RETRY_S, delay * 2)
