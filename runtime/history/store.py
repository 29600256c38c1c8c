"""Writes the visits of a running stream into its history: a thread of its own, so that no disk holds up the loop."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personsearch.core.errors import UserError
from personsearch.core.files import real_path
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.decisions.sighting import mean_view
from personsearch.runtime.delivery.events import from_iso
from personsearch.runtime.history import folder
from personsearch.runtime.history.crops import BestPictures
from personsearch.runtime.history.visit_file import Header, NoVisits, VisitFile, append, day_of
from personsearch.runtime.settings import HistorySettings

if TYPE_CHECKING:
    from personsearch.runtime.decisions.sighting import Sighting, Stay

log = logging.getLogger("personsearch.history")
WRITER = ".writer"  # held by the one stream that writes here
WAITING, BACKLOG = 10_000, 20_000  # visits on their way to the thread; kept in memory while the disk refuses them
EXPIRE_EVERY_S, TRY_EVERY_S = 30.0, 1.0
REMEMBERED = 10_000  # sightings whose earlier records may still get a name


@dataclass
class Row:
    """A visit that waits for the disk."""

    camera: str
    record: np.void
    crop: bytes

    @property
    def day(self) -> str:
        return day_of(float(self.record["ended"]))

    def forgotten(self, traces: dict[str, float]) -> bool:
        person, sighting = self.record["person"].decode(), self.record["sighting"].decode()
        return folder.was_forgotten(traces, person, sighting, float(self.record["started"]))


@dataclass(frozen=True)
class Correction:
    """A visit that is over was this person's (an id), or nobody's who is enrolled."""

    sighting: str
    person: str
    started: float


class History:
    """Raises UserError if the folder cannot be written, or another stream writes it.

    kept, left_out  visits on disk, and those that neither the disk nor memory took
    failing         why the disk refuses visits at the moment, or ""
    """

    def __init__(
        self, settings: HistorySettings, model: str, dimensions: int,
        keeps: Callable[[str], bool] = lambda camera: True, min_free_mb: float = 0,
    ) -> None:  # fmt: skip
        """model        hash of the bundle, whose embeddings have so many dimensions
        keeps        whether the visits to a camera that gives frames may be kept
        min_free_mb  no crops while the disk has less room: pictures go first"""
        self.settings, self._keeps = settings, keeps
        self._model, self._dimensions = model, dimensions
        self.kept = self.left_out = self.erased = 0
        self.failing = ""
        self._allowed: set[str] = set()
        self._queue: queue.Queue[Row | Correction | None] = queue.Queue(WAITING)
        self._backlog: deque[Row] = deque()
        self._corrections: deque[Correction] = deque(maxlen=BACKLOG)
        self._places: OrderedDict[bytes, list[tuple[Path, int]]] = OrderedDict()  # of a sighting's records
        self._expired: dict[Path, int] = {}
        self._next_expiry = self._next_try = 0.0
        try:
            self.root = real_path(settings.path)
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Held as long as the history, and only for reading: a disk can be made read-only meanwhile.
            self._writer = open(os.open(self.root / WRITER, os.O_RDONLY | os.O_CREAT, 0o600), "rb")  # noqa: SIM115
            fcntl.flock(self._writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(os.open(self.root / folder.LOCK, os.O_RDWR | os.O_CREAT, 0o600))
        except BlockingIOError:
            self._writer.close()
            raise UserError(
                f"{settings.path}: another stream writes this history; give each its own `history.path`"
            ) from None
        except OSError as error:
            raise UserError(
                f"{settings.path}: the history cannot be written ({error.strerror}); set another history.path"
            ) from None
        self.pictures = BestPictures(self.root, min_free_mb) if settings.crops else None
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    # --- from the pipeline's thread -----------------------------------------------------------------------------------

    def look(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        """Of each analysed frame, so while its camera exists: may its visits be kept? And the best picture of everybody
        in it, if crops are wanted."""
        if not self._keeps(frame.camera):
            self._allowed.discard(frame.camera)
            return
        self._allowed.add(frame.camera)
        if self.pictures is not None:
            self.pictures.see(frame, tracks)

    def add(self, sighting: Sighting, stay: Stay) -> None:
        """A stay in one camera is over: one visit to keep. Never raises and never waits."""
        crop = self.pictures.take(stay.camera, stay.track) if self.pictures is not None else b""
        if stay.camera not in self._allowed or not stay.views:
            return
        record = np.zeros(1, Header(self._model, self._dimensions, stay.camera).record)[0]
        record["embedding"] = mean_view(stay.views)
        record["sighting"], record["person"] = sighting.id.encode(), (sighting.person_id or "").encode()
        record["stranger"] = (sighting.pseudonym or "").encode()
        record["started"], record["ended"], record["track"] = stay.started, stay.ended, stay.track
        record["views"] = min(len(stay.views), 65535)
        best = max(stay.views, key=lambda view: view.quality)
        record["quality"], record["box"] = best.quality, best.box
        try:
            self._queue.put_nowait(Row(stay.camera, record, crop))
        except queue.Full:
            self.left_out += 1

    def correct(self, event: dict[str, Any]) -> None:
        """Of each event that corrects a visit after its end. From any thread; never waits."""
        correction = Correction(event["sighting"], event["person"] or "", from_iso(event["started"]))
        try:
            self._queue.put_nowait(correction)
        except queue.Full:
            log.error("%s: the name of %s stays as it was kept", self.root, correction.sighting)

    def forget_person(self, person: str) -> int:
        """Erase every visit of a person, by id; gives how many. From any thread. Raises UserError."""
        return folder.forget_person(self.root, person)

    def close(self) -> None:
        """Write what waits."""
        self._queue.put(None)
        self._thread.join(30)
        self._writer.close()
        self.left_out += len(self._backlog)
        if self.left_out:
            log.error("%s: %d visits could not be kept", self.root, self.left_out)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._attempt(lambda: folder.tidy(self.root))
        going_on = True
        while going_on:
            try:
                first = self._queue.get(timeout=TRY_EVERY_S)
            except queue.Empty:
                pass
            else:
                taken = [first]
                while not self._queue.empty():
                    taken.append(self._queue.get())
                self._backlog += [one for one in taken if isinstance(one, Row)]
                self._corrections += [one for one in taken if isinstance(one, Correction)]
                going_on = None not in taken
            now = time.monotonic()
            if (self._backlog or self._corrections) and (now >= self._next_try or not going_on):
                self._attempt(self._write)
            if now >= self._next_expiry:
                self._next_expiry = now + EXPIRE_EVERY_S
                self._attempt(self._expire)

    def _attempt(self, job: Callable[[], None]) -> None:
        """A disk that refuses is told once, and tried again every second."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)  # somebody may have removed it all
            with folder.locked(self.root):
                job()
        except OSError as error:
            self._next_try = time.monotonic() + TRY_EVERY_S
            if not self.failing:
                log.error("%s: the history cannot be written (%s); watching goes on", self.root, error.strerror)
            self.failing = error.strerror or str(error)
            while len(self._backlog) > BACKLOG:
                self._backlog.popleft()
                self.left_out += 1
            return
        if self.failing:
            log.warning("%s: the history can be written again", self.root)
            self.failing = ""

    def _write(self) -> None:
        """One append for each file, so that a row is taken off the backlog only when it is there."""
        traces = folder.forgotten(self.root)
        while self._backlog:
            day, camera = self._backlog[0].day, self._backlog[0].camera
            rows = [r for r in self._backlog if r.camera == camera and r.day == day]
            wanted = [r for r in rows if not r.forgotten(traces)]
            header = Header(self._model, self._dimensions, camera)
            if wanted:
                numbers = append(self.root / day, header, [r.record for r in wanted], [r.crop for r in wanted])
                for row, number in zip(wanted, numbers, strict=True):
                    self._name_earlier(row.record)
                    self._remember(row.record["sighting"], self.root / day / header.file_name, number)
            self.kept += len(wanted)
            taken = set(map(id, rows))
            self._backlog = deque(r for r in self._backlog if id(r) not in taken)
        while self._corrections:
            visit = self._corrections[0]
            if not folder.was_forgotten(traces, visit.person, visit.sighting, visit.started):
                folder.name_sighting(self.root, visit.sighting, visit.person, visit.started)
            self._corrections.popleft()

    def _remember(self, sighting: bytes, path: Path, number: int) -> None:
        self._places.setdefault(sighting, []).append((path, number))
        self._places.move_to_end(sighting)
        while len(self._places) > REMEMBERED:
            self._places.popitem(last=False)

    def _name_earlier(self, record: np.void) -> None:
        """A name that was found, or corrected, later in a sighting holds for the part that was written before."""
        for path, number in self._places.get(record["sighting"], ()):
            try:
                with VisitFile(path, writing=True) as file:
                    earlier = file.read(number)
                    if earlier["sighting"] == record["sighting"] and earlier["person"] != record["person"]:
                        earlier["person"], earlier["stranger"] = record["person"], record["stranger"]
                        file.write(number, earlier)
            except (OSError, NoVisits):  # it was erased meanwhile
                continue

    def _expire(self) -> None:
        self.erased += folder.expire(self.root, self.settings.keep_hours * 3600, time.time(), self._expired)
