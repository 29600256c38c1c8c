"""Stand-ins for what a stream tells of sightings, and the history and recorder that hear of it.

Imported by processes that tests start, so without PyTorch.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.bundle import read_manifest
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.history.store import History
from personsearch.runtime.recording.recorder import Recorder
from personsearch.runtime.settings import HistorySettings, RecordSettings, default_bundle

MANIFEST = read_manifest(default_bundle())
MODEL = MANIFEST.model_hash, MANIFEST.dimensions
NOON = time.time() // 86400 * 86400 - 43200  # of yesterday
WALL = 1_790_000_000.0
SMALL = np.random.default_rng(0).integers(0, 255, (27, 48, 3), np.uint8)
IMAGE = cv2.resize(SMALL, (480, 270), interpolation=cv2.INTER_CUBIC)


@dataclass
class AView:
    embedding: np.ndarray
    quality: float = 0.5
    box: np.ndarray = field(default_factory=lambda: np.array([10, 20, 50, 120], np.float32))


@dataclass
class AStay:
    camera: str
    started: float
    ended: float
    track: int = 1
    views: list[AView] = field(default_factory=list)


@dataclass
class ASighting:
    id: str = field(default_factory=lambda: f"s-{secrets.token_hex(8)}")
    person: str | None = None
    pseudonym: str | None = None
    started: float = 0.0
    last_seen: float = 0.0
    stays: list[AStay] = field(default_factory=list)
    person_id: str | None = None


@dataclass
class AChange:
    sighting: ASighting
    change: str
    camera: str
    frame: Frame | None = None
    reason: str = ""


class Visits:
    """Every track of a pipeline as a visit of its own: `see` is a watcher of the pipeline, `leave` ends them all."""

    def __init__(self, pipeline) -> None:
        self.pipeline, self.open = pipeline, {}
        self.listeners, self.stay_listeners = [], []

    def see(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        named = {match.track.number: match.person for match in matches}
        evidence = self.pipeline.people.of(frame.camera).evidence
        for track in tracks:
            if not track.confirmed or track.number not in evidence or not evidence[track.number].views:
                continue
            key = (frame.camera, track.number)
            if key not in self.open:
                stay = AStay(frame.camera, frame.wall, frame.wall, track.number)
                self.open[key] = ASighting(started=frame.wall, stays=[stay])
            sighting = self.open[key]
            sighting.stays[0].ended = sighting.last_seen = frame.wall
            if track.number in named and sighting.person is None:
                sighting.person, sighting.person_id = named[track.number], "p-0123456789ab"
                for listener in self.listeners:
                    listener(AChange(sighting, "started", frame.camera, frame, "named"))

    def leave(self) -> None:
        for (camera, number), sighting in self.open.items():
            views = self.pipeline.people.of(camera).evidence[number].views
            sighting.stays[0].views = [AView(view.embedding, view.quality) for view in views]
            for listener in self.stay_listeners:
                listener(sighting, sighting.stays[0])
            for listener in self.listeners:
                listener(AChange(sighting, "ended", camera))
        self.open = {}


def rows(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, MANIFEST.dimensions)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def open_history(root: Path, **settings: object) -> History:
    return History(HistorySettings(path=str(root), keep_hours=24 * 366, **settings), *MODEL)


def visit(
    history: History, row: np.ndarray, camera: str = "door", started: float = NOON, person: str | None = None,
    sighting: ASighting | None = None, lasting: float = 20.0,
) -> ASighting:  # fmt: skip
    history.look(Frame(camera, np.zeros((4, 4, 3), np.uint8), 0, started, 0.0), [], [])
    sighting = sighting or ASighting()
    sighting.person_id = person
    history.add(sighting, AStay(camera, started, started + lasting, 7, [AView(row)]))
    return sighting


def open_recorder(folder: Path, mode: str = "all", min_free_mb: float = 0, **settings: object) -> Recorder:
    return Recorder(RecordSettings(mode=mode, folder=str(folder), **settings), min_free_mb)


def frame(number: int, camera: str = "door", image: np.ndarray = IMAGE) -> Frame:
    """Of a file with 10 frames a second."""
    return Frame(camera, image, number, WALL + number / 10, 0.0, moment=number / 10)
