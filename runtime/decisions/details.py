"""People of cameras with a `detail_url`: their pictures are fetched from the main stream before they are described.

chosen wants -> fetch -> (the readers answer) -> take -> the engine, whichever it is, describes pictures as ever
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from personsearch.core.cut_out import CutOut
from personsearch.core.quality import quality_of
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.detail import DetailReader, DetailView
from personsearch.runtime.cameras.detail_views import reference_of
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.recognition import Want, Wanted


class Details:
    """`readers` by camera; cameras without a `detail_url` have none, and cost nothing here."""

    def __init__(self) -> None:
        self.readers: dict[str, DetailReader] = {}
        self._ready: deque[Wanted] = deque()

    def add(self, camera: CameraSettings) -> None:
        if camera.detail_url:
            self.readers[camera.name] = DetailReader(camera)

    def remove(self, name: str) -> None:
        """With the camera: nobody waits for its views any more."""
        if reader := self.readers.pop(name, None):
            reader.stop()
        self._ready = deque(item for item in self._ready if item[0] != name)

    def apply(self, camera: CameraSettings) -> None:
        """After a reload, of a camera that goes on: another main stream gets another reader."""
        reader = self.readers.get(camera.name)
        if reader is not None and reader.settings.same_detail(camera):
            reader.settings = camera
        elif reader is not None:
            reader.stop()
            self._collect(reader)
            self.add(camera)

    def stop(self) -> None:
        for reader in self.readers.values():
            reader.stop()

    def tick(self, now: float) -> None:
        for reader in self.readers.values():
            reader.tick(now)

    def channels(self) -> dict[int, Callable[[], None]]:
        """What has to be called when a descriptor can be read."""
        return {r.channel.fileno(): r.read for r in self.readers.values() if r.channel is not None}

    def magnified(self, frame: Frame) -> float:
        """Pixels of the picture that people are described from along a side, for one of the frame."""
        reader = self.readers.get(frame.camera)
        if reader is None or reader.state != "online" or not max(frame.picture_size):
            return 1.0
        return max(1.0, max(reader.size) / max(frame.picture_size) / frame.scale)

    # --- wants ------------------------------------------------------------------------------------------------------

    def fetch(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """Ask for what comes from a main stream; gives the others, which can be described now."""
        now = []
        for name, want in wanted:
            if (reader := self.readers.get(name)) is None or want.shot is None:
                now.append((name, want))
            else:
                reader.ask((name, want), want.shot, want.part.corners, want.place, reference_of(want.picture))
        return now

    def take(self, most: int) -> list[Wanted]:
        """Whoever can be described now, with the main stream's picture or, where it has none, with the own one."""
        for reader in self.readers.values():
            self._collect(reader)
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def _collect(self, reader: DetailReader) -> None:
        while reader.answers:
            (name, want), view = reader.answers.popleft()
            self._ready.append((name, replace(want, shot=None) if view is None else _with_view(want, view)))

    def waiting(self) -> set[str]:
        """Cameras with people who wait for their picture, or with it."""
        return {name for name, reader in self.readers.items() if reader.waiting} | {name for name, _ in self._ready}


def _with_view(want: Want, view: DetailView) -> Want:
    quality = replace(quality_of(view.picture, view.box, want.quality.score), visible=want.quality.visible)
    return replace(want, shot=None, part=CutOut(view.picture, view.box, want.part.corners), quality=quality)
