"""Who is told of what: an analysed frame's matches, changes of sightings, states of cameras and engine, as events; and
the watchers, who see every analysed frame."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.announcer import Announcer
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.recognition import Match, Recognition
from personsearch.runtime.decisions.sighting import SightingChange
from personsearch.runtime.decisions.sightings import Sightings
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.operations.counters import CameraStatistics, Durations
from personsearch.runtime.settings import StreamSettings

log = logging.getLogger("personsearch")
Observer = Callable[[Frame, list[Track], list[Match]], None]
LATEST = 20_000  # latencies that are kept


class Telling:
    """Called from the pipeline's thread; `publish` hands an event to a thread of its own, so nothing here blocks."""

    def __init__(
        self, settings: StreamSettings, model_hash: str, gallery: Gallery, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        self.settings, self.gallery, self.publish = settings, gallery, publish
        name = str if settings.publish.names else lambda person: self.gallery.id_of(person)
        self.events = EventFactory(settings.box, model_hash, name)
        self.announcer = Announcer(settings.match)
        self.sightings = Sightings(settings, gallery)
        self.sightings.listeners.append(self._sighting)
        self.watchers: list[Observer] = []  # called for every analysed frame with its tracks and matches
        self.statistics: dict[str, CameraStatistics] = {}
        self.latency = Durations()  # from the capture of a frame until its events were handed to the publisher
        self.recent: deque[float] = deque(maxlen=LATEST)  # the latest of these, in seconds

    def apply(self, settings: StreamSettings, gallery: Gallery, touched: list[str]) -> None:
        """After a reload.

        touched  names of the cameras that were added, changed or removed"""
        self.settings, self.gallery = settings, gallery
        self.sightings.apply(settings, gallery, touched)
        self.announcer.settings = settings.match

    def frame(self, frame: Frame, recognition: Recognition, matches: list[Match]) -> None:
        """What was decided about the people in a frame, which is through with this.

        recognition  its camera's, as of this frame"""
        frame.decided = time.monotonic()
        self.sightings.see(frame, recognition, matches)
        for match in matches:
            if self.announcer.due(frame.camera, match, frame.moment):
                self.publish(self.events.match(match, frame, time.time()))
                self.statistics[frame.camera].matches += 1
        if self.settings.match.candidates:
            for match in recognition.candidates():
                if self.announcer.due(frame.camera, match, frame.moment):
                    self.publish(self.events.candidate(match, frame, time.time()))
        frame.told = time.monotonic()
        if not frame.late:
            latency = frame.told - frame.monotonic
            self.latency.add(latency)
            self.recent.append(latency)
        for watcher in self.watchers:
            watcher(frame, recognition.tracks, matches)

    def _sighting(self, change: SightingChange) -> None:
        self.publish(self.events.sighting(change, self.gallery, time.time()))

    def camera_state(self, camera: Camera, state: str, cause: str, reason: str) -> None:
        """As a `Camera` reports it."""
        self.publish(self.events.camera_state(camera.name, state, cause, reason, time.time()))
        self.sightings.camera_state(camera.name, state, cause)
        trouble = state == "offline" or (state == "ended" and reason not in ("", "stopped"))
        level = logging.WARNING if trouble else logging.INFO
        said = state + (f" ({cause})" if cause else "") + (f": {reason}" if reason else "")
        log.log(level, "camera %s: %s", camera.name, said, extra={"camera": camera.name})

    def engine_state(self, state: str, reason: str, failures: int) -> None:
        """As `Inference` reports it.

        failures  in a row"""
        self.publish(self.events.engine_state(state, reason, failures, time.time()))
        if state == "given_up":
            self.sightings.engine_gave_up()
        (log.info if state == "ready" else log.error)("inference engine: %s (%s)", state, reason)
