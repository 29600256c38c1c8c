"""Which frames are analysed next: fair across cameras, never stale, in batches that form while the engine waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.settings import SchedulingSettings

FOLLOWED = 2.0  # so many times as often is a camera looked at in which somebody is followed
PATIENT_S = 0.25  # so long does a look at a still scene wait for a gap
HELD_UP_S = 0.02  # for which a frame in which something moves may wait: else there would hardly be a gap


class Scheduler:
    """The camera that has waited longest comes first, so a fast camera cannot push a slow one aside. Where somebody is
    followed, each second of waiting counts twice: with too much to do, names are worth more than empty scenes. Looks at
    still scenes wait for a gap between frames in which something moves. Where no gap comes for long, they never come
    twice in a row while something that moves waits."""

    def __init__(
        self, settings: SchedulingSettings, batch: int, following: Callable[[str], bool] = lambda _camera: False
    ) -> None:
        """batch      frames that the engine takes at once
        following  whether anybody is followed in a camera"""
        self.settings, self.batch, self.following = settings, batch, following
        self.load = 0.0  # share of the time that the engine is busy, smoothed
        self._since = 0.0  # when the first frame of the batch that forms was seen
        self._looked = False  # the latest batch began with a look at a still scene

    def choose(self, cameras: Sequence[Camera], busy: bool, inference_s: float, now: float) -> list[Frame]:
        """The next batch, one frame of each camera at most; empty while there is nothing, or it pays to wait.

        Frames older than `max_age_s` are dropped as stale, looks once the next is due; except of lossless cameras.
        """
        for camera in cameras:
            if not camera.settings.lossless:
                while camera.pending and self._stale(camera.pending[0], now):
                    camera.drop(camera.pending.popleft(), "stale")
        ready = self._without_patient_looks([c for c in cameras if c.pending], cameras, inference_s, now)
        ready.sort(key=lambda c: (now - c.last_served) * (FOLLOWED if self.following(c.name) else 1.0), reverse=True)
        if busy or not ready:
            self._since = 0.0 if not ready else self._since
            return []
        self._since = self._since or now
        reading = sum(c.state == "online" for c in cameras)
        full = len(ready) >= min(self.batch, max(1, reading))
        if not full and now - self._since < self.window(inference_s):
            return []
        self._since = 0.0
        if self._looked:
            ready.sort(key=lambda c: c.pending[0].look)
        self._looked = ready[0].pending[0].look
        chosen = ready[: self.batch]
        for camera in chosen:
            camera.last_served = now
        return [camera.pending.popleft() for camera in chosen]

    def _stale(self, frame: Frame, now: float) -> bool:
        """A still scene looks the same until its next look."""
        longest = max(self.settings.max_age_s, self.settings.look_every_s) if frame.look else self.settings.max_age_s
        return not frame.late and now - frame.monotonic > longest

    def _without_patient_looks(
        self, ready: list[Camera], cameras: Sequence[Camera], inference_s: float, now: float
    ) -> list[Camera]:
        if not moves_soon(cameras, inference_s, now):
            return ready
        return [c for c in ready if not c.pending[0].look or now - c.pending[0].monotonic >= PATIENT_S]

    def window(self, inference_s: float) -> float:
        """Seconds to wait for a fuller batch: none while the engine has time to spare (a frame alone is then
        analysed at once), up to a quarter of an inference when it is the bottleneck."""
        return min(self.settings.batch_window_s, 0.25 * inference_s) * min(1.0, self.load)

    def note(self, busy_share: float) -> None:
        """Called about once a second with the share of that time that the engine was busy."""
        self.load = 0.7 * self.load + 0.3 * min(1.0, busy_share)


def moves_soon(cameras: Sequence[Camera], within_s: float, now: float) -> bool:
    """A frame in which something moves waits, or is due a while before anything that takes so long would be over."""
    within_s -= HELD_UP_S
    return any((c.pending and not c.pending[0].look) or c.rhythm.due(now, within_s) for c in cameras)
