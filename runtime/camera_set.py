"""The cameras of one box: which there are, what exists for each of them, and which failure ends the stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from personsearch.core.errors import CameraError
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.details import Details
from personsearch.runtime.decisions.people import People
from personsearch.runtime.operations.counters import CameraStatistics
from personsearch.runtime.settings import SchedulingSettings


class CameraSet:
    """`cameras`, in the order of the settings; those that a reload adds come last."""

    def __init__(
        self,
        people: People,
        details: Details,
        statistics: dict[str, CameraStatistics],
        report: Callable[[Camera, str, str, str], None],
    ) -> None:
        """people, details, statistics  get what belongs to a camera, and lose it
        report  as of `Camera`"""
        self.cameras: list[Camera] = []
        self._people, self._details, self._statistics, self._report = people, details, statistics, report

    def add(self, settings: CameraSettings, scheduling: SchedulingSettings) -> None:
        """It is among `cameras` last: other threads ask for what belongs to those."""
        self._people.add(settings)
        self._details.add(settings)
        self._statistics[settings.name] = CameraStatistics()
        camera = Camera(settings, self._report)
        camera.leave_out_still(scheduling, watch_every_s=math.inf)
        self.cameras.append(camera)

    def keep(self, wanted: Iterable[CameraSettings]) -> list[str]:
        """Give cameras whose source is the same their new settings, and remove all others. The names of these."""
        settings, removed = {new.name: new for new in wanted}, []
        for camera in list(self.cameras):
            new = settings.get(camera.name)
            if new is not None and new.same_source(camera.settings):
                camera.settings = new
                self._details.apply(new)
            else:
                camera.stop()
                self.cameras.remove(camera)
                self._people.remove(camera.name)
                self._details.remove(camera.name)
                removed.append(camera.name)
        return removed

    def add_missing(self, wanted: Iterable[CameraSettings], scheduling: SchedulingSettings) -> list[str]:
        """Of those that are wanted and not here. Their names."""
        present = {camera.name for camera in self.cameras}
        missing = [settings for settings in wanted if settings.name not in present]
        for settings in missing:
            self.add(settings, scheduling)
        return [settings.name for settings in missing]

    def named(self, name: str) -> Camera:
        """Raises StopIteration if there is none."""
        return next(camera for camera in self.cameras if camera.name == name)

    def of(self, frame: Frame) -> Camera | None:
        """None if the camera was removed by a reload while its frame was under way."""
        return next((camera for camera in self.cameras if camera.name == frame.camera), None)

    @property
    def done(self) -> bool:
        """All have ended, and all their frames were taken."""
        return all(camera.done for camera in self.cameras)

    @property
    def pending(self) -> bool:
        """A frame waits."""
        return any(camera.pending for camera in self.cameras)

    def fatal(self, camera: Camera, state: str, cause: str, reason: str) -> CameraError | None:
        """The error that ends a stream at its start, if this camera's state is one: a local source could not be read at
        all, or no camera could be opened. What passes, such as an accident of ours (`crashed`), is none."""
        if not camera.counters.failures:
            return None
        local = not camera.settings.live and state == "ended" and cause != "end" and not camera.counters.captured
        none = cause != "crashed" and all(c.counters.opened == 0 and c.counters.failures for c in self.cameras)
        return CameraError(f"camera {camera.name}: {reason} ({cause})") if local or none else None
