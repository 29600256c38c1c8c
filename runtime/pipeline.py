"""The loop in which everything meets: cameras -> scheduler -> inference process -> tracks -> matches -> events.

One thread, and nothing in it blocks: cameras and the engine are processes that send messages, the publisher has
threads of its own. So a dead camera, a slow engine or a frozen subscriber never holds up the others.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.bundle import Manifest
from personsearch.core.errors import CameraError, EngineError
from personsearch.core.records import Detections
from personsearch.core.tracker import Track, Tracker
from personsearch.runtime.camera import Camera
from personsearch.runtime.counters import CameraStatistics, Durations
from personsearch.runtime.events import EventFactory
from personsearch.runtime.frames import Frame
from personsearch.runtime.gallery import Gallery
from personsearch.runtime.inference import Inference
from personsearch.runtime.matching import Announcer, Match, best_matches
from personsearch.runtime.recorder import Recorder
from personsearch.runtime.scheduler import Scheduler
from personsearch.runtime.settings import CameraSettings, StreamSettings
from personsearch.runtime.urls import kind_of

log = logging.getLogger("personsearch")
Observer = Callable[[Frame, list[Track], list[Match]], None]
TICK_S = 0.1
EXIT_ENGINE_GAVE_UP = 4


class Pipeline:
    """All cameras of one box. `run` blocks until the last camera has ended or `stop` is called."""

    def __init__(
        self,
        settings: StreamSettings,
        bundle: str | Path,
        manifest: Manifest,
        gallery: Gallery,
        publish: Callable[[dict[str, Any]], None],
        recorder: Recorder | None = None,
        observer: Observer | None = None,
        keep_trying: bool = False,
    ) -> None:
        """observer     called for every analysed frame with its tracks and matches (the demo's score, tests)
        keep_trying  do not end when no camera can be opened at the start"""
        self.settings, self.manifest, self.gallery = settings, manifest, gallery
        self.publish, self.recorder, self.observer, self.keep_trying = publish, recorder, observer, keep_trying
        self.events = EventFactory(settings.box, manifest.model_hash)
        options = {"bundle": bundle, "engine": settings.engine, "threads": settings.threads}
        self.inference = Inference(options, manifest, settings.inference, self._engine_state)
        self.scheduler = Scheduler(settings.scheduling, manifest.batch)
        self.announcer = Announcer(settings.match)
        self.cameras: list[Camera] = []
        self.trackers: dict[str, Tracker] = {}
        self.statistics: dict[str, CameraStatistics] = {}
        for camera in settings.cameras:
            self._add(camera)
        self.age = Durations()  # from the capture of a frame to the start of its inference
        self.latency = Durations()  # from the capture of a frame until its events were handed to the publisher
        self.recent: deque[float] = deque(maxlen=20_000)  # the latest of these latencies
        self.started = self.ticked = 0.0
        self.cpu_s = 0.0  # of this loop
        self.every_second: list[Callable[[float], None]] = []
        self._busy_before = self._next_second = 0.0
        self._stop = threading.Event()
        self._fatal: CameraError | None = None
        self._reloaded = False  # from then on nothing that a file says can end the stream

    @property
    def threshold(self) -> float:
        match = self.settings.match
        if match.threshold is not None:
            return match.threshold
        return self.manifest.threshold(match.false_alarm_rate, self.inference.name)

    @property
    def exit_status(self) -> int:
        return EXIT_ENGINE_GAVE_UP if self.inference.state == "given_up" else 0

    def stop(self) -> None:
        """Ask `run` to end; safe from a signal handler: nothing is locked here."""
        self._stop.set()

    def run(self, on_status: Callable[[], None] = lambda: None) -> None:
        """Raises CameraError if no camera could be opened, or a local one could not; EngineError if the engine cannot
        be loaded at the start."""
        self.started = time.monotonic()
        next_status = self.started + self.settings.status_every_s
        try:
            while not self._stop.is_set():
                self.turn()
                now = self.ticked
                if now >= next_status:
                    next_status = now + self.settings.status_every_s
                    on_status()
                if all(camera.done for camera in self.cameras) and not self.inference.batch:
                    break
                if self.inference.state == "given_up" and self.settings.inference.after_giving_up == "exit":
                    break
        finally:
            self._fatal = None
            for camera in self.cameras:
                camera.stop()
            for frame in self.inference.batch + self.inference.orphans:
                owner = self._owner(frame)
                if owner is not None:
                    owner.drop(frame, "end")
            self.inference.close()

    # --- one turn of the loop -------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Wait for messages, then let everybody do what is due."""
        self._wait_and_read()
        now = self.ticked = time.monotonic()
        self.inference.tick(now)
        for camera in self.cameras:
            if camera.settings.live or self.inference.state != "loading" or self.inference.restarts:
                camera.tick(now)  # files wait for the engine to load once; else their first seconds would be missed
        self._recover_batch()
        self._dispatch(now)
        if now >= self._next_second:
            self._second(now)
        if self._fatal is not None:
            raise self._fatal
        if self.inference.unusable_at_start:
            raise EngineError(self.inference.unusable_at_start)

    def _wait_and_read(self) -> None:
        poll = select.poll()
        readers: dict[int, Callable[[], None]] = {}
        for camera in self.cameras:
            if camera.channel is not None:
                readers[camera.channel.fileno()] = camera.read
        if self.inference.channel is not None:
            readers[self.inference.channel.fileno()] = self._read_results
        for descriptor in readers:
            poll.register(descriptor, select.POLLIN)
        waiting = self.inference.idle and any(camera.pending for camera in self.cameras)
        for descriptor, _ in poll.poll(2 if waiting else TICK_S * 1000):
            readers[descriptor]()

    def _dispatch(self, now: float) -> None:
        if self.inference.state == "given_up":
            for camera in self.cameras:
                while camera.pending:  # nobody will look at them, but the cameras go on
                    camera.drop(camera.pending.popleft(), "engine")
            return
        frames = self.scheduler.choose(self.cameras, not self.inference.idle, self.inference.mean_s, now)
        if not frames:
            return
        for frame in frames:
            self.age.add(now - frame.monotonic)
        self.inference.submit(frames, self.settings.min_score, now)

    def _read_results(self) -> None:
        result = self.inference.read()
        if result is not None:
            frames, found = result
            self._dispatch(time.monotonic())  # the engine works on while we look at what it found
            for frame, detections in zip(frames, found, strict=True):
                self._follow(frame, detections)
                frame.release()

    def _recover_batch(self) -> None:
        """Frames of an engine that died: lossless ones are tried again, the others are history."""
        frames, self.inference.orphans = self.inference.orphans, []
        for frame in reversed(frames):
            camera = self._owner(frame)
            if camera is not None and camera.settings.lossless and self.inference.state != "given_up":
                camera.pending.appendleft(frame)
            elif camera is not None:
                camera.drop(frame, "engine")

    def _owner(self, frame: Frame) -> Camera | None:
        """None if the camera was removed by a reload while its frame was under analysis."""
        return next((c for c in self.cameras if c.name == frame.camera), None)

    def _second(self, now: float) -> None:
        self._next_second = now + 1.0
        self.scheduler.note(self.inference.busy_s - self._busy_before)
        self._busy_before = self.inference.busy_s
        self.announcer.forget_before(now - 600)
        self.inference.forget({n for camera in self.cameras for n in camera.memories})
        self.cpu_s = time.thread_time()
        for job in list(self.every_second):
            job(now)

    # --- one analysed frame ---------------------------------------------------------------------------------------

    def _follow(self, frame: Frame, detections: Detections) -> None:
        camera = self._owner(frame)
        if camera is None:
            return
        camera.counters.analysed += 1
        options = self.settings.tracking
        statistics = self.statistics[frame.camera]
        detections = outside_zones(detections, frame, camera.settings)
        tracks = self.trackers[frame.camera].update(detections, frame.monotonic)
        statistics.see(tracks, options.min_sightings)
        steady = [t for t in tracks if t.sightings >= options.min_sightings]
        matches = best_matches(steady, self.gallery, self.threshold)
        for match in matches:
            if self.announcer.due(frame.camera, match, frame.monotonic):
                self.publish(self.events.match(match, frame, self.threshold, time.time()))
                statistics.matches += 1
        latency = time.monotonic() - frame.monotonic
        self.latency.add(latency)
        self.recent.append(latency)
        if self.recorder:
            self.recorder.write(frame, tracks, matches)
        if self.observer:
            self.observer(frame, tracks, matches)

    # --- cameras come and go ----------------------------------------------------------------------------------------

    def camera(self, name: str) -> Camera:
        return next(c for c in self.cameras if c.name == name)

    def _add(self, settings: CameraSettings) -> None:
        self.cameras.append(Camera(settings, self._camera_state))
        self.trackers[settings.name] = Tracker(self.settings.tracking)
        self.statistics[settings.name] = CameraStatistics()

    def apply(self, settings: StreamSettings, gallery: Gallery) -> list[str]:
        """Take over checked settings and gallery without touching cameras that did not change.

        Gives the names of the cameras that were added, changed or removed.
        """
        wanted = {c.name: c for c in settings.cameras}
        self._reloaded = True
        touched = []
        for camera in list(self.cameras):
            if wanted.get(camera.name) != camera.settings:
                camera.stop()
                self.cameras.remove(camera)
                touched.append(camera.name)
        self.inference.batch = [f if f.camera not in touched else _ownerless(f) for f in self.inference.batch]
        self.settings, self.gallery = settings, gallery
        present = {c.name for c in self.cameras}
        for name, camera_settings in wanted.items():
            if name not in present:
                self._add(camera_settings)
                touched.append(name)
        for tracker in self.trackers.values():
            tracker.settings = settings.tracking
        self.announcer.settings = settings.match
        self.scheduler.settings = settings.scheduling
        return sorted(set(touched))

    def _camera_state(self, camera: Camera, state: str, cause: str, reason: str) -> None:
        self.publish(self.events.camera_state(camera.name, state, cause, reason, time.time()))
        level = logging.WARNING if state == "offline" else logging.INFO
        log.log(level, "camera %s: %s %s %s", camera.name, state, cause, reason, extra={"camera": camera.name})
        never = camera.counters.opened == 0 and camera.counters.failures > 0
        if never and not self.keep_trying and not self._reloaded:
            local = kind_of(camera.settings.url) != "network" and state == "ended" and cause != "end"
            nothing = all(c.counters.opened == 0 and c.counters.failures > 0 for c in self.cameras)
            if local or nothing:
                self._fatal = CameraError(f"camera {camera.name}: {reason} ({cause})")

    def _engine_state(self, state: str, reason: str, failures: int) -> None:
        self.publish(self.events.engine_state(state, reason, failures, time.time()))
        (log.info if state == "ready" else log.error)("inference engine: %s (%s)", state, reason)

    def status_lines(self) -> list[str]:
        """One line per camera: rates since the start, and what was seen."""
        elapsed = max(time.monotonic() - self.started, 1e-6)
        lines = []
        for camera in self.cameras:
            s, c = self.statistics[camera.name], camera.counters
            lines.append(
                f"{camera.name:16s} {camera.state:8s} in {c.captured / elapsed:6.1f} fps  "
                f"analysed {c.analysed / elapsed:6.1f} fps  dropped {sum(c.dropped.values()):6d}  people {s.now:3d} "
                f"(tracks {s.tracks})  matches {s.matches}"
            )
        return lines


def _ownerless(frame: Frame) -> Frame:
    frame.camera = ""  # no camera may be called so: the result will be dropped
    return frame


def outside_zones(detections: Detections, frame: Frame, camera: CameraSettings) -> Detections:
    """Without the detections whose centre lies in an ignore zone."""
    if not camera.ignore or not len(detections):
        return detections
    boxes = frame.to_picture(detections.boxes)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.asarray(frame.picture_size)
    keep = np.ones(len(detections), bool)
    for x, y, w, h in camera.ignore:
        inside = (centre >= [x, y]) & (centre <= [x + w, y + h])
        keep &= ~inside.all(1)
    return detections[keep]
