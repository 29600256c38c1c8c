"""The loop in which everything meets: cameras -> scheduler -> inference process -> tracks -> matches -> events.

One thread, and nothing in it blocks: cameras and the engine are processes that send messages, the publisher has
threads of its own. So a dead camera, a slow engine or a frozen subscriber never holds up the others.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from personsearch.core.bundle import Manifest
from personsearch.core.errors import CameraError, EngineError
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.camera_set import CameraSet
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.calibration import CameraCalibration
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.people import People
from personsearch.runtime.decisions.zones import drop_outside_hours, outside_zones
from personsearch.runtime.describing import Describing
from personsearch.runtime.operations.counters import Durations
from personsearch.runtime.operations.overload import Overload
from personsearch.runtime.processes.inference import Described, Inference
from personsearch.runtime.processes.scheduler import Scheduler, moves_soon
from personsearch.runtime.settings import StreamSettings
from personsearch.runtime.telling import Telling

log = logging.getLogger("personsearch")
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
        keep_trying: bool = False,
        calibrations: Mapping[str, CameraCalibration] | None = None,
        means: str | Path | None = None,
    ) -> None:
        """calibrations and means are those of `People`
        keep_trying  do not end when no camera can be opened at the start"""
        self.settings, self.manifest = settings, manifest
        self.publish, self.keep_trying = publish, keep_trying
        self.telling = Telling(settings, manifest.model_hash, gallery, publish)
        self.watchers, self.events, self.sightings = self.telling.watchers, self.telling.events, self.telling.sightings
        self.statistics, self.latency, self.recent = self.telling.statistics, self.telling.latency, self.telling.recent
        options = {"bundle": bundle, "engine": settings.engine, "threads": settings.threads}
        self.inference = Inference(options, manifest, settings.inference, self.telling.engine_state)
        self.overload = Overload()
        self.people = People(settings, manifest, gallery, settings.engine, calibrations, means)
        self.describing = Describing(self.people, self.inference)
        self.details = self.describing.details
        self.scheduler = Scheduler(settings.scheduling, manifest.batch, self.people.following)
        self._analysed: list[tuple[Frame, list[Track]]] = []  # frames that wait for descriptions of people in them
        self._set = CameraSet(self.people, self.details, self.statistics, self._camera_state)
        self.cameras = self._set.cameras
        for camera in settings.cameras:
            self._set.add(camera, settings.scheduling)
        self.age = Durations()  # from the capture of a frame to the start of its inference
        self.started = self.ticked = 0.0
        self.cpu_s = 0.0  # of this loop
        self.every_second: list[Callable[[float], None]] = []
        self._busy_before = self._next_second = 0.0
        self._stop = threading.Event()
        self._fatal: CameraError | None = None
        self._reloaded = False  # from then on nothing that a file says can end the stream

    @property
    def gallery(self) -> Gallery:
        """Everybody, also those who are not matched any more."""
        return self.people.enrolled

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
                under_way = self.inference.batch or self._analysed or self.details.waiting()
                if self._set.done and not under_way:
                    break
                if self.inference.state == "given_up" and self.settings.inference.after_giving_up == "exit":
                    break
        finally:
            self._fatal = None
            self.sightings.close()
            self.details.stop()
            for camera in self.cameras:
                camera.stop()
            for frame, _ in self._analysed:
                frame.release()
            self.people.save()
            for frame in self.inference.batch + self.inference.orphans:
                owner = self._set.of(frame)
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
        self.details.tick(now)
        self._recover()
        drop_outside_hours(self.cameras, time.time())
        self._dispatch(now)
        self._choose_meanwhile(now)
        if now >= self._next_second:
            self._second(now)
        if self._fatal is not None:
            raise self._fatal
        if self.inference.unusable_at_start:
            raise EngineError(self.inference.unusable_at_start)

    def _wait_and_read(self) -> None:
        poll = select.poll()
        readers: dict[int, Callable[[], None]] = self.details.channels()
        for camera in self.cameras:
            if camera.channel is not None:
                readers[camera.channel.fileno()] = camera.read
        if self.inference.channel is not None:
            readers[self.inference.channel.fileno()] = self._read_results
        for descriptor in readers:
            poll.register(descriptor, select.POLLIN)
        waiting = self.inference.idle and self._set.pending
        for descriptor, _ in poll.poll(2 if waiting else TICK_S * 1000):
            readers[descriptor]()

    def _dispatch(self, now: float) -> None:
        self.describing.go_on(now)
        if self.inference.state == "given_up":
            for camera in self.cameras:
                while camera.pending:  # nobody will look at them, but the cameras go on
                    camera.drop(camera.pending.popleft(), "engine")
            return
        waiting = self.details.waiting()  # of a lossless camera the next frame waits, so that it always finds the same
        cameras = [c for c in self.cameras if c.name not in waiting or not c.settings.lossless]
        frames = self.scheduler.choose(cameras, not self.inference.idle, self.inference.mean_s, now)
        if not frames:
            return
        for frame in frames:
            frame.submitted = now
            if not frame.late:
                self.age.add(now - frame.monotonic)
        self.inference.submit(frames, self.people.least_score, now)

    def _read_results(self) -> None:
        """Found people are followed, and some of them described."""
        result = self.inference.read()
        if result is None:
            return
        now = time.monotonic()
        if isinstance(result, Described):
            self.describing.learn(result.embeddings)
        else:
            for frame, detections in zip(result.frames, result.detections, strict=True):
                frame.analysed = now
                self._follow(frame, detections)
            looks = all(frame.look for frame, _ in self._analysed)
            names = {frame.camera for frame, _ in self._analysed}
            cameras = [camera for camera in self.cameras if camera.name in names]
            if not (looks and self._moves_soon(now)) and self.describing.after(cameras, looks, now):
                return
        self._dispatch(now)  # the engine works on while we conclude
        self._conclude()

    def _moves_soon(self, now: float) -> bool:
        """Before the engine could be done with another frame, or with describing somebody."""
        return moves_soon(self.cameras, self.inference.mean_s, now)

    def _choose_meanwhile(self, now: float) -> None:
        """Whom no frame waited for is described while no frame waits."""
        if self.inference.idle and not self._analysed and not self._set.pending and not self._moves_soon(now):
            self.describing.meanwhile(self.cameras, self.scheduler.load, now)

    def _recover(self) -> None:
        """After an engine that died: lossless frames are tried again, the others are history; whoever was to be
        described waits on."""
        if self.describing.take_back():
            self._conclude()
        frames, self.inference.orphans = self.inference.orphans, []
        for frame in reversed(frames):
            camera = self._set.of(frame)
            if camera is not None and camera.settings.lossless and self.inference.state != "given_up":
                camera.pending.appendleft(frame)
            elif camera is not None:
                camera.drop(frame, "engine")

    def _under_way(self) -> set[str]:
        """Names of the cameras that have frames which wait or are under analysis."""
        frames = [*self.inference.batch, *self.inference.orphans, *(frame for frame, _ in self._analysed)]
        pending = {camera.name for camera in self.cameras if camera.pending}
        return {frame.camera for frame in frames} | pending | self.details.waiting()

    def _second(self, now: float) -> None:
        self._next_second = now + 1.0
        self.scheduler.note(self.inference.busy_s - self._busy_before)
        self._busy_before = self.inference.busy_s
        self.overload.note(self.cameras, self.inference.busy_s, now)
        for camera in self.cameras:
            camera.leave_out_still(self.settings.scheduling, self.people.watch_every_s(camera.name))
        self.telling.announcer.forget_older(600)
        self.people.every_second(now)
        self.sightings.tick(now, self._under_way())
        self.inference.forget({n for camera in self.cameras for n in camera.memories})
        self.cpu_s = time.thread_time()
        for job in list(self.every_second):
            try:
                job(now)
            except OSError as error:  # no descriptors, no memory: the cameras are more important
                log.warning("a job of every second is left out: %s", error.strerror)

    # --- one analysed frame ---------------------------------------------------------------------------------------

    def _follow(self, frame: Frame, detections: Detections) -> None:
        camera = self._set.of(frame)
        if camera is None:
            frame.release()
            return
        camera.counters.analysed += 1
        tracks = self.people.see(
            frame, outside_zones(detections, frame, camera.settings), self.details.magnified(frame)
        )
        camera.leave_out_still(self.settings.scheduling, self.people.watch_every_s(camera.name))
        self.statistics[frame.camera].see(tracks)
        self._analysed.append((frame, tracks))

    def _conclude(self) -> None:
        """Decide about the people in the frames that waited, and say so."""
        waiting, self._analysed = self._analysed, []
        for frame, _ in waiting:
            if self._set.of(frame) is not None:
                self.telling.frame(frame, self.people.of(frame.camera), self.people.decide(frame.camera))
            frame.release()

    # --- cameras come and go ----------------------------------------------------------------------------------------

    def camera(self, name: str) -> Camera:
        """Raises StopIteration if there is none of that name."""
        return self._set.named(name)

    def apply(
        self, settings: StreamSettings, gallery: Gallery, calibrations: Mapping[str, CameraCalibration] | None = None
    ) -> list[str]:
        """Take over checked settings and gallery without touching cameras that did not change.

        Gives the names of the cameras that were added, changed or removed.
        """
        self._reloaded = True
        touched = self._set.keep(settings.cameras)
        for frame in [*self.inference.batch, *(frame for frame, _ in self._analysed)]:
            if frame.camera in touched:
                frame.camera = ""  # no camera may be called so: what comes of it is dropped
        self.settings = settings
        self.people.apply(settings, gallery, calibrations or {})
        touched = sorted({*touched, *self._set.add_missing(settings.cameras, settings.scheduling)})
        self.telling.apply(settings, gallery, touched)
        self.scheduler.settings = settings.scheduling
        return touched

    def _camera_state(self, camera: Camera, state: str, cause: str, reason: str) -> None:
        self.telling.camera_state(camera, state, cause, reason)
        if not self.keep_trying and not self._reloaded:
            self._fatal = self._fatal or self._set.fatal(camera, state, cause, reason)
