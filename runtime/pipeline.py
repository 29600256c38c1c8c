"""The way from frames to events: take -> detect -> track -> match -> publish, for all cameras together."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personsearch.core.engines import BundleSearcher
from personsearch.core.errors import CameraError
from personsearch.core.records import Detections
from personsearch.runtime.capture import Camera, Frame
from personsearch.runtime.events import EventFactory
from personsearch.runtime.gallery import Gallery
from personsearch.runtime.matching import Announcer, Match, best_matches
from personsearch.runtime.recorder import Recorder
from personsearch.runtime.settings import StreamSettings
from personsearch.runtime.sources import is_network
from personsearch.runtime.tracker import Track, Tracker

log = logging.getLogger("personsearch")
Observer = Callable[[Frame, list[Track], list[Match]], None]


@dataclass
class CameraStatistics:
    analysed: int = 0
    people: int = 0  # sightings, summed over analysed frames
    tracks: int = 0  # people followed for at least `min_sightings` frames
    matches: int = 0  # events
    now: int = 0  # people in the latest frame
    _known: set[int] = field(default_factory=set)

    def see(self, tracks: list[Track], min_sightings: int) -> None:
        self.analysed += 1
        self.people += len(tracks)
        self.now = len(tracks)
        fresh = {t.number for t in tracks if t.sightings >= min_sightings} - self._known
        self._known |= fresh
        self.tracks += len(fresh)


class Pipeline:
    """All cameras of one box. `run` blocks until the last camera has ended or `stop` is called."""

    def __init__(
        self,
        settings: StreamSettings,
        searcher: BundleSearcher,
        gallery: Gallery,
        publish: Callable[[dict[str, Any]], None],
        recorder: Recorder | None = None,
        observer: Observer | None = None,
    ) -> None:
        """observer  called for every analysed frame with its tracks and matches (the demo's score, tests)"""
        self.settings, self.searcher, self.gallery = settings, searcher, gallery
        self.publish, self.recorder, self.observer = publish, recorder, observer
        self.threshold = (
            searcher.manifest.threshold(settings.match.false_alarm_rate)
            if settings.match.threshold is None
            else settings.match.threshold
        )
        self.events = EventFactory(settings.box, searcher.manifest.model_hash)
        self.ready = threading.Condition()
        # Camera threads only leave word here; all events are numbered and sent by the pipeline's own thread.
        self._reports: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
        self.cameras = [Camera(c, self.ready, lambda *word: self._reports.put(word)) for c in settings.cameras]
        self.trackers = {c.name: Tracker(settings.tracking) for c in self.cameras}
        self.statistics = {c.name: CameraStatistics() for c in self.cameras}
        self.announcer = Announcer(settings.match)
        self.inference_s, self.started = 0.0, 0.0
        self._turn, self._stop = 0, threading.Event()

    def stop(self) -> None:
        """Ask `run` to end; safe from a signal handler: nothing is locked here."""
        self._stop.set()

    def run(self, on_status: Callable[[], None] = lambda: None) -> None:
        """Raises CameraError if no camera could be opened, or a local one could not."""
        self.started = time.monotonic()
        next_status = self.started + self.settings.status_every_s
        for camera in self.cameras:
            camera.start()
        try:
            while not self._stop.is_set():
                frames = self._take()
                self._report_cameras()
                if frames:
                    self._analyse(frames)
                elif all(camera.done for camera in self.cameras):
                    break
                now = time.monotonic()
                if now >= next_status:
                    next_status = now + self.settings.status_every_s
                    self.announcer.forget_before(now - 600)
                    on_status()
        finally:
            for camera in self.cameras:
                camera.stop()
            for camera in self.cameras:
                camera.join(self.settings.cameras[0].read_timeout_s + 1)
            self._report_cameras(final=True)

    def _take(self) -> list[Frame]:
        """The newest frame of every camera that has one, beginning with another camera each time."""
        with self.ready:
            if not any(c._latest is not None for c in self.cameras):
                self.ready.wait(0.1)
            self._turn += 1
            order = [self.cameras[(self._turn + i) % len(self.cameras)] for i in range(len(self.cameras))]
            return [frame for camera in order if (frame := camera.take()) is not None]

    def _analyse(self, frames: list[Frame]) -> None:
        began = time.monotonic()
        found = self.searcher.detect([f.image for f in frames], self.settings.min_score)
        self.inference_s += time.monotonic() - began
        for frame, detections in zip(frames, found, strict=True):
            self._follow(frame, detections)

    def _follow(self, frame: Frame, detections: Detections) -> None:
        options = self.settings.tracking
        statistics = self.statistics[frame.camera]
        tracks = self.trackers[frame.camera].update(detections, frame.monotonic)
        statistics.see(tracks, options.min_sightings)
        steady = [t for t in tracks if t.sightings >= options.min_sightings]
        matches = best_matches(steady, self.gallery, self.threshold)
        for match in matches:
            if self.announcer.due(frame.camera, match, frame.monotonic):
                self.publish(self.events.match(match, frame, self.threshold, time.time()))
                statistics.matches += 1
        if self.recorder:
            self.recorder.write(frame, tracks, matches)
        if self.observer:
            self.observer(frame, tracks, matches)

    def _report_cameras(self, final: bool = False) -> None:
        while not self._reports.empty():
            name, state, reason = self._reports.get()
            self.publish(self.events.camera_state(name, state, reason, time.time()))
            (log.warning if state == "offline" else log.info)("camera %s: %s %s", name, state, reason)
            camera = next(c for c in self.cameras if c.name == name)
            never = state == "offline" and camera.counters.opened == 0
            if never and not final and (not is_network(camera.settings.url) or self._nothing_opened()):
                raise CameraError(reason)

    def _nothing_opened(self) -> bool:
        return all(c.counters.opened == 0 and c.counters.failures > 0 for c in self.cameras)

    def status_lines(self) -> list[str]:
        """One line per camera: rates since the start, and what was seen."""
        elapsed = max(time.monotonic() - self.started, 1e-6)
        lines = []
        for camera in self.cameras:
            s, c = self.statistics[camera.name], camera.counters
            lines.append(
                f"{camera.name:16s} {camera.state:8s} in {c.captured / elapsed:6.1f} fps  "
                f"analysed {s.analysed / elapsed:6.1f} fps  dropped {c.dropped:6d}  people {s.now:3d} "
                f"(tracks {s.tracks})  matches {s.matches}"
            )
        return lines
