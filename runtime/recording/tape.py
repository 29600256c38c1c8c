"""One camera's recording, in the recorder's thread: pictures wait for as long as a clip begins before its sighting, and
only then it is decided which clips they belong to and who in them is hidden.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from personsearch.runtime.recording.drawing import annotate, hide
from personsearch.runtime.recording.files import name_of, note
from personsearch.runtime.recording.video_file import VideoFile
from personsearch.runtime.settings import RecordSettings

log = logging.getLogger("personsearch.recorder")
QUALITY = 90  # of JPEG, in which pictures wait: a raw one of 1920x1080 has 6 MB
SEGMENT_S, SAY_AFTER_S = 600.0, 5.0  # of a video of everything; of recording, until the size to expect is said
TRY_AGAIN_S = 30.0
NEAR_S = 1.0  # somebody who was not found in a picture is hidden where he was found that near in time
NAMED_S = 2.0  # a match holds for so long where a frame did not say it again


@dataclass(eq=False)
class Shot:
    """An analysed picture, uint8 (h, w, 3) BGR, on its way to the disk.

    boxes   (4,) xyxy in pixels, by track; labels  of those that were matched
    moment  seconds of the stream's clock; wall  unix seconds; arrived  monotonic seconds
    seen    sightings that were seen in it
    """

    camera: str
    image: np.ndarray
    boxes: dict[int, np.ndarray]
    labels: dict[int, str]
    moment: float
    wall: float
    arrived: float
    seen: frozenset[str] = frozenset()

    def pack(self) -> None:
        self.image = cv2.imencode(".jpg", self.image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]

    def picture(self) -> np.ndarray:
        return self.image if self.image.ndim == 3 else np.asarray(cv2.imdecode(self.image, cv2.IMREAD_COLOR))


@dataclass(eq=False)
class Clip:
    """A video that is written, or will be with its first picture. Times are of the stream's clock."""

    begin: float
    until: float
    sighting: str = ""
    person: str | None = None
    ended: bool = False  # nothing comes after `until`
    file: VideoFile | None = None
    first: Shot | None = None  # in the file
    walls: list[float] = field(default_factory=list)  # unix seconds of the first and the latest picture
    failed_at: float = -np.inf
    told: bool = False

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.save()
            self.file = None

    def save(self) -> None:
        """Who it shows, beside the video."""
        if self.file is not None and self.sighting:
            with contextlib.suppress(OSError):  # a full disk: the video is worth more
                camera = self.file.path.name.partition(".")[0]
                since, until = self.walls[0], self.walls[-1]
                note(
                    self.file.path, sighting=self.sighting, person=self.person, camera=camera, since=since, until=until
                )


class Tape:
    """`left_out`: pictures that the disk did not take."""

    def __init__(self, camera: str, settings: RecordSettings) -> None:
        self.camera, self.settings, self.left_out = camera, settings, 0
        self.everything = settings.mode == "all"
        self.delay_s = 0.0 if self.everything else settings.before_s
        self.clips: list[Clip] = [Clip(-np.inf, np.inf)] if self.everything else []
        self._waiting: deque[Shot] = deque()
        self._past: deque[Shot] = deque()  # of the last second, without their pictures
        self._seen: dict[int, float] = {}  # track -> when it was seen last, and matched last
        self._matched: dict[int, float] = {}
        self._latest = -np.inf

    # --- what comes in ------------------------------------------------------------------------------------------------

    def add(self, shot: Shot) -> None:
        if shot.moment < self._latest:
            self._begin_anew()
        self._latest = shot.moment
        for number in shot.boxes:
            self._seen[number] = shot.moment
        for number in shot.labels:
            self._matched[number] = shot.moment
        for clip in self.clips:
            if clip.sighting in shot.seen:
                clip.until = max(clip.until, shot.moment + self.settings.after_s)
        if self.delay_s:
            shot.pack()
        self._waiting.append(shot)
        self.advance(shot.arrived)

    def begin(self, sighting: str, person: str | None, moment: float) -> None:
        if not any(clip.sighting == sighting for clip in self.clips):
            self.clips.append(Clip(moment - self.settings.before_s, moment + self.settings.after_s, sighting, person))

    def name(self, sighting: str, person: str | None) -> None:
        for clip in self.clips:
            if clip.sighting == sighting:
                clip.person = person

    def end(self, sighting: str) -> None:
        for clip in self.clips:
            clip.ended = clip.ended or clip.sighting == sighting

    # --- what goes out ------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Write what has waited long enough, by the stream's clock, or by ours if the stream stands still."""
        while self._waiting:
            oldest = self._waiting[0]
            if self._waiting[-1].moment - oldest.moment < self.delay_s and now - oldest.arrived < self.delay_s + 1:
                break
            self._waiting.popleft()
            self._write(oldest)
        for clip in [c for c in self.clips if c.ended]:
            if not self._waiting or self._waiting[0].moment > clip.until:
                clip.close()
                self.clips.remove(clip)

    def close(self) -> None:
        """Write what waits, and end all files."""
        while self._waiting:
            self._write(self._waiting.popleft())
        for clip in self.clips:
            clip.close()

    def _begin_anew(self) -> None:
        """The camera has another source since a reload, and the stream's clock begins anew: nothing compares."""
        self.close()
        self.clips = [clip for clip in self.clips if not clip.sighting]
        self._past.clear()
        self._seen, self._matched = {}, {}

    def _write(self, shot: Shot) -> None:
        clips = [c for c in self.clips if c.begin <= shot.moment <= c.until]
        if clips:
            picture = shot.picture()
            if self.settings.blur:
                hide(picture, self.strangers(shot))
            annotate(picture, shot.boxes, shot.labels)
            for clip in clips:
                self._put(clip, shot, picture)
        shot.image = np.zeros((0, 0, 3), np.uint8)
        self._past.append(shot)
        while shot.moment - self._past[0].moment > NEAR_S:
            self._past.popleft()
        if len(self._seen) > 1000:
            self._seen = dict(list(self._seen.items())[-500:])
            self._matched = {n: m for n, m in self._matched.items() if n in self._seen}

    def strangers(self, shot: Shot) -> list[np.ndarray]:
        """Boxes of everybody who is no match, also where a frame did not find somebody whom its neighbours did."""
        near = [s for s in (*self._past, *self._waiting) if abs(s.moment - shot.moment) <= NEAR_S]
        missed = [(n, box) for other in near for n, box in other.boxes.items() if n not in shot.boxes]
        return [box for n, box in (*shot.boxes.items(), *missed) if n not in shot.labels and not self._known(n)]

    def _known(self, number: int) -> bool:
        """Is this track a match, as far as is known by now?"""
        return self._matched.get(number, -np.inf) >= self._seen.get(number, np.inf) - NAMED_S

    def _put(self, clip: Clip, shot: Shot, picture: np.ndarray) -> None:
        now = time.monotonic()
        try:
            if clip.file is None:
                if now - clip.failed_at < TRY_AGAIN_S:
                    self.left_out += 1
                    return
                path = Path(self.settings.folder) / f"{name_of(self.camera, shot.wall, clip.sighting)}.mp4"
                clip.file, clip.first = VideoFile(path, (picture.shape[1], picture.shape[0])), shot
                clip.walls = [shot.wall]
                clip.save()
            assert clip.first is not None
            seconds = shot.moment - clip.first.moment
            clip.file.write(picture, seconds)
        except OSError as error:
            self.left_out += 1
            if clip.failed_at < 0:
                log.error("recording %s: cannot be written (%s); watching goes on", self.camera, error.strerror)
            clip.close()  # what is on the disk plays; the rest begins a new file when there is room
            clip.failed_at = now
            return
        clip.walls[1:] = [shot.wall]
        if self.everything:
            self._say(clip, seconds)
        if seconds >= SEGMENT_S:
            clip.close()

    def _say(self, clip: Clip, seconds: float) -> None:
        if seconds > SAY_AFTER_S and not clip.told and clip.file is not None:
            clip.told = True
            log.warning(
                "recording %s takes %.2f GB an hour; max_fps and max_size of the camera make it less",
                self.camera, clip.file.written / seconds * 3600 / 1e9, extra={"camera": self.camera},
            )  # fmt: skip
