"""Records video of everything, or of sightings with seconds before and after, beside the loop: a bounded queue leads to
a thread that draws, hides and encodes (all in code that lets the loop run meanwhile). What does not fit is left out and
counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from personsearch.core.errors import UserError
from personsearch.core.files import replace_file
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.recording.drawing import hide
from personsearch.runtime.recording.files import name_clips, name_of, note, rotate
from personsearch.runtime.recording.tape import Shot, Tape
from personsearch.runtime.recording.video_file import load_encoder
from personsearch.runtime.settings import RecordSettings

if TYPE_CHECKING:
    from personsearch.runtime.decisions.sighting import Sighting, SightingChange

log = logging.getLogger("personsearch.recorder")
MOST_BYTES = 128 << 20  # of pictures on their way to the thread: 20 of 1920x1080
PICTURES = ("named", "stranger", "better")  # reasons of changes that a snapshot is taken of
ROTATE_EVERY_S, LOOK_EVERY_S, TELL_EVERY_S = 20.0, 0.5, 60.0


class Recorder:
    """Raises UserError if the folder takes no files, or PyAV is missing.

    left_out  pictures that were not recorded: the thread was behind, or the disk had no room or refused them
    paused    the disk has too little room
    """

    def __init__(self, settings: RecordSettings, min_free_mb: float = 0, limited: bool = True) -> None:
        """min_free_mb  recording pauses while the disk has less room: pictures go first, events and enrolment last
        limited      whether the settings' age and size limit what is kept"""
        load_encoder()
        self.settings, self.min_free_mb, self._limited = settings, min_free_mb, limited
        self.folder = Path(settings.folder)
        self.paused, self._left_out, self._next_look = False, 0, 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot record there ({error.strerror})") from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise UserError(f"{self.folder}: cannot record there; is the disk or the folder read-only?")
        self._open: dict[tuple[str, str], tuple[Sighting, float]] = {}  # by id and camera; when it was seen there last
        self._people: dict[str, str | None] = {}  # id of whom each open sighting shows
        self._moments: dict[str, tuple[float, float]] = {}  # of each camera's latest frame: stream's clock, wall
        self._wanted: dict[str, dict[str, str | None]] = {}  # snapshots of a camera's next frame: sighting and person
        self._tapes: dict[str, Tape] = {}  # the thread's
        self._snapshots: dict[str, Path] = {}  # of open sightings; the thread's
        self._jobs: deque[Callable[[], None]] = deque()
        self._bytes, self._ended = 0, False
        self._wake = threading.Condition()
        self._next_rotation = self._next_telling = 0.0
        self._told = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def left_out(self) -> int:
        return self._left_out + sum(tape.left_out for tape in list(self._tapes.values()))

    # --- from the pipeline's thread -----------------------------------------------------------------------------------

    def write(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        """Of each analysed frame. Copies it, and never waits."""
        self._moments[frame.camera] = frame.moment, frame.wall
        seen = self._seen_now(frame.camera)
        if self._no_room() or self._bytes + frame.image.nbytes > MOST_BYTES:
            self._left_out += 1
            return
        snapshots = self._wanted.pop(frame.camera, {})
        shot = Shot(
            frame.camera, frame.image.copy(), {t.number: t.box.copy() for t in tracks},
            {m.track.number: f"{m.person} {m.similarity:.2f}" for m in matches},
            frame.moment, frame.wall, time.monotonic(), seen,
        )  # fmt: skip
        self._ask(lambda: self._add(shot, snapshots), shot.image.nbytes)

    def on_change(self, change: SightingChange) -> None:
        """Of each change of a sighting: a clip begins with it, or in one more camera, and ends with it."""
        if self.settings.mode != "sightings":
            return
        sighting, camera = change.sighting, change.camera
        who, person = sighting.id, sighting.person_id
        if change.change == "ended":
            self._open = {key: value for key, value in self._open.items() if key[0] != who}
            if self._people.pop(who, person) != person:
                self._ask(lambda: self._name(who, person))
            self._ask(lambda: self._end(who))
            return
        if (who, camera) not in self._open and (change.frame is not None or camera in self._moments):
            moment = change.frame.moment if change.frame is not None else self._moments[camera][0]
            self._open[who, camera] = sighting, _last_seen(sighting, camera)
            self._ask(lambda: self._tape(camera).begin(who, person, moment))
        if self._people.get(who, person) != person:
            self._ask(lambda: self._name(who, person))
        self._people[who] = person
        if self.settings.snapshots and change.frame is not None and change.reason in PICTURES:
            self._wanted.setdefault(camera, {})[who] = person  # `write` of this frame comes next

    def correct(self, event: dict[str, Any]) -> None:
        """Of each event that corrects a visit after its end: its files have another name."""
        self._ask(lambda: self._name(event["sighting"], event["person"]))

    def _seen_now(self, camera: str) -> frozenset[str]:
        """The sightings whose stay in this camera has gone on with the frame that is told now."""
        seen = []
        for key, (sighting, before) in self._open.items():
            if key[1] == camera and (last := _last_seen(sighting, camera)) != before:
                self._open[key] = sighting, last
                seen.append(key[0])
        return frozenset(seen)

    def _no_room(self) -> bool:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY_S
            try:
                free = shutil.disk_usage(self.folder).free / 1e6
            except OSError:  # the folder is gone: the thread will say so
                return self.paused
            # A little more must be free to go on than to stop, so that it does not flutter.
            paused = free < self.min_free_mb * (1.1 if self.paused else 1.0)
            if paused != self.paused:
                log.warning("recording %s: %.0f MB free in %s", "paused" if paused else "goes on", free, self.folder)
            self.paused = paused
        return self.paused

    def _ask(self, job: Callable[[], None], size: int = 0) -> None:
        with self._wake:
            self._bytes += size

            def run() -> None:
                try:
                    job()
                finally:
                    with self._wake:
                        self._bytes -= size

            self._jobs.append(run)
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, and end all files."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(60)
        if self.left_out:
            log.warning("recording: %d pictures were left out", self.left_out)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._jobs and not self._ended:
                    self._wake.wait(0.5)
                job = self._jobs.popleft() if self._jobs else None
                ended = self._ended and job is None
            if job is not None:
                try:
                    job()
                except Exception:  # a picture that no codec takes: the next one may be better
                    self._left_out += 1
                    log.exception("recording: a picture is left out")
            elif not ended:
                for tape in self._tapes.values():
                    tape.advance(time.monotonic())
            self._look_after()
            if ended:
                for tape in self._tapes.values():
                    tape.close()
                return

    def _look_after(self) -> None:
        now = time.monotonic()
        if now >= self._next_rotation and self._limited:
            self._next_rotation = now + ROTATE_EVERY_S
            with contextlib.suppress(OSError):  # a folder that is gone, or read-only by now: writing says so
                rotate(self.folder, self.settings.keep_hours * 3600, self.settings.max_mb * 1e6)
        if now >= self._next_telling:
            self._next_telling = now + TELL_EVERY_S
            if self.left_out > self._told and not self.paused:
                log.warning("recording: %d pictures were left out so far", self.left_out)
            self._told = self.left_out

    def _tape(self, camera: str) -> Tape:
        if camera not in self._tapes:
            self._tapes[camera] = Tape(camera, self.settings)
        return self._tapes[camera]

    def _name(self, sighting: str, person: str | None) -> None:
        for tape in self._tapes.values():
            tape.name(sighting, person)
        with contextlib.suppress(OSError, ValueError):  # a full disk: the clips' names stay as they were
            name_clips(self.folder, sighting, person)

    def _end(self, sighting: str) -> None:
        for tape in self._tapes.values():
            tape.end(sighting)
        self._snapshots.pop(sighting, None)

    def _add(self, shot: Shot, snapshots: dict[str, str | None]) -> None:
        """snapshots  sightings that want a picture of this frame, and whom they show"""
        tape = self._tape(shot.camera)
        for sighting, person in snapshots.items():
            picture = shot.image.copy()
            if self.settings.blur:
                hide(picture, tape.strangers(shot))
            fresh = self.folder / f"{name_of(shot.camera, shot.wall, sighting)}.jpg"
            path = self._snapshots.setdefault(sighting, fresh)  # a better one replaces it
            with contextlib.suppress(OSError):  # a full disk: the next one
                replace_file(path, bytes(cv2.imencode(".jpg", picture)[1]), 0o600)
                note(path, sighting=sighting, person=person, camera=shot.camera, since=shot.wall, until=shot.wall)
        tape.add(shot)


def _last_seen(sighting: Sighting, camera: str) -> float:
    return max((stay.ended for stay in sighting.stays if stay.camera == camera), default=0.0)
