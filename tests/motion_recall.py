#!/usr/bin/env python
"""Which people does `scheduling.motion` lose, and what does it save? On real footage, against every frame analysed.

    python tests/motion_recall.py --data SHARED_DATA --cache DIR [--tiles 3] [--json FILE]

SHARED_DATA holds video/*, preview/*.gif and people-mot/. Every source is read at about ten frames a second (of
people-mot's cameras every frame). The detector's people in every frame are kept in DIR, so that a second run only
follows and looks at motion; the tracker sees the frames that the gate lets through and says whether anybody is
followed, as in the stream. Lost are the people, at the working point, of frames that were left out, unless they are
where somebody who is followed was in the latest frame that was not.

Real footage is seldom empty, so there are harder rows: `--tiles N` cuts each picture into NxN cameras of their own,
many of which are empty most of the time, with the same noise, shadows and people who come, go and stand. And
`follow no` is the gate without the tracker: motion and looks alone.
Also: the processor time of the gate, and of OpenCV's background models on the same small picture.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.errors import UserError, run_main
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Tracker, TrackingSettings
from personsearch.core.videos import Video
from personsearch.runtime.cameras.motion import MotionDetector, MotionGate, small

FPS, LOW, WORKING = 10.0, 0.15, 0.3
SAME_IOU = 0.5
LATE = 2  # frames later the gate hears whether anybody is followed: the engine takes its time
Tile = tuple[float, float, float, float]


@dataclass
class Tally:
    frames: int = 0
    analysed: int = 0
    people: int = 0
    lost: int = 0

    def add(self, other: Tally) -> None:
        for key, value in vars(other).items():
            setattr(self, key, getattr(self, key) + value)


@dataclass(frozen=True)
class Kind:
    """A row of the table."""

    model: str
    parts: int  # along each side, each a camera
    follow: bool

    def tiles(self) -> list[Tile]:
        starts = [number / self.parts for number in range(self.parts)]
        return [(x, y, 1 / self.parts, 1 / self.parts) for y in starts for x in starts]


class Once:
    """A detector of motion that several gates ask about the same frame."""

    def __init__(self, detector: MotionDetector | BackgroundModel) -> None:
        self._detector, self._moment, self._verdict = detector, -1.0, ""

    def see(self, image: np.ndarray, moment: float) -> str:
        if moment != self._moment:
            self._moment, self._verdict = moment, self._detector.see(image, moment)
        return self._verdict


class BackgroundModel:
    """One of OpenCV's background models in the place of `MotionDetector`."""

    def __init__(self, kind: str) -> None:
        make = cv2.createBackgroundSubtractorMOG2 if kind == "MOG2" else cv2.createBackgroundSubtractorKNN
        self._model = make(history=200, detectShadows=False)
        self._seen = 0

    def see(self, image: np.ndarray, moment: float) -> str:
        mask = self._model.apply(small(image).astype(np.uint8))
        self._seen += 1
        if self._seen == 1 or cv2.countNonZero(mask) > 0.45 * mask.size:
            return "new"
        return "moving" if cv2.blur(mask, (5, 5), borderType=cv2.BORDER_CONSTANT).max() >= 255 * 0.4 else "still"


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with video/, preview/ and people-mot/")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the detections")
    parser.add_argument("--bundle", default="models/edge")
    parser.add_argument("--tiles", type=int, default=3, help="also NxN parts of each picture (default 3; 0: none)")
    parser.add_argument("--only", default="", help="sources whose name holds this")
    parser.add_argument("--models", default="ours,MOG2,KNN", help="which detectors of motion")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    sources = {name: frames for name, frames in _sources(given.data).items() if given.only in name}
    if not sources:
        raise UserError(f"{given.data}: no source there whose name holds '{given.only}'")
    given.cache.mkdir(parents=True, exist_ok=True)
    kinds = [
        Kind(model, parts, follow)
        for model in given.models.split(",")
        for parts in ((1, given.tiles) if given.tiles > 1 else (1,))
        for follow in (True, False)
    ]
    rows, totals = [], [Tally() for _ in kinds]
    for name, frames in sources.items():
        found = _detections(given.cache / f"{name}.npz", frames, given.bundle)
        for kind, total, tally in zip(kinds, totals, gated(frames(), found, kinds), strict=True):
            total.add(tally)
            rows.append(_row(kind, name, tally))
    rows += [_row(kind, "all", total) for kind, total in zip(kinds, totals, strict=True)]
    costs = {f"{model} {w}x{h}": cost(model, w, h) for model in given.models.split(",")
             for w, h in ((1920, 1080), (640, 384))}  # fmt: skip
    for name, seconds in costs.items():
        print(f"{name}: {1000 * seconds:.2f} ms of processor time a frame")
    if given.json:
        Path(given.json).write_text(json.dumps({"rows": rows, "cpu_s": costs}, indent=1) + "\n", encoding="utf-8")
    return 0


def _row(kind: Kind, name: str, tally: Tally) -> dict[str, object]:
    loss = tally.lost / max(1, tally.people)
    print(
        f"{kind.model:5s} {name:38s} {kind.parts}x{kind.parts} follow {'yes' if kind.follow else 'no ':3s} left out "
        f"{1 - tally.analysed / max(1, tally.frames):6.1%}  lost {tally.lost:4d} of {tally.people:5d} ({loss:.2%})",
        flush=True,
    )
    return {"source": name, **vars(kind), **vars(tally), "loss": loss}


def _sources(data: Path) -> dict[str, Callable[[], Iterator[np.ndarray]]]:
    found: dict[str, Callable[[], Iterator[np.ndarray]]] = {}
    for path in sorted([*data.glob("video/*.*"), *data.glob("preview/*.gif")]):
        found[path.stem] = lambda path=path: _video(path)
    for camera in ("c1", "c2", "c3"):
        files = sorted(data.glob(f"people-mot/frames/{camera}*.jpg"))
        if files:
            found[camera] = lambda files=files: (cv2.imread(str(file)) for file in files)
    return found


def _video(path: Path) -> Iterator[np.ndarray]:
    video = Video(str(path))
    return (picture.image for picture in video.every(max(1, round(video.fps / FPS))))


def _detections(cache: Path, frames: Callable[[], Iterator[np.ndarray]], bundle: str) -> list[Detections]:
    """Of every frame, from the cache if they are there."""
    if not cache.is_file():
        from personsearch.core.engines.searcher import BundleSearcher

        searcher = BundleSearcher(bundle)
        found = [searcher.find([image], LOW)[0] for image in frames()]
        boxes = [np.concatenate([d.boxes, d.scores[:, None]], axis=1).reshape(-1, 5) for d in found]
        np.savez(cache, counts=[len(d) for d in found], boxes=np.concatenate(boxes))
    with np.load(cache) as stored:
        parts = np.split(stored["boxes"].astype(np.float32), np.cumsum(stored["counts"])[:-1])
    return [Detections(part[:, :4], part[:, 4], np.zeros((len(part), 0), np.float32)) for part in parts]


def gated(frames: Iterator[np.ndarray], found: list[Detections], kinds: list[Kind]) -> list[Tally]:
    """Every part of the picture as a camera of its own, through the gate and the tracker."""
    shared: dict[tuple[str, Tile], Once] = {}
    cameras = [(number, tile, Camera(kind, tile, shared)) for number, kind in enumerate(kinds) for tile in kind.tiles()]
    tallies = [Tally() for _ in kinds]
    for number, (image, detections) in enumerate(zip(frames, found, strict=True)):
        parts = {tile: _cut(image, detections, tile) for tile in {tile for _, tile, _ in cameras}}
        for row, tile, camera in cameras:
            part, inside = parts[tile]
            people, opens = inside[inside.scores >= WORKING], camera.sees(part, inside, number / FPS)
            tallies[row].add(Tally(1, int(opens), len(people), 0 if opens else camera.lost(people)))
    return tallies


class Camera:
    """A part of the picture, its gate and its tracker."""

    def __init__(self, kind: Kind, tile: Tile, shared: dict[tuple[str, Tile], Once]) -> None:
        if (kind.model, tile) not in shared:
            detector = MotionDetector() if kind.model == "ours" else BackgroundModel(kind.model)
            shared[kind.model, tile] = Once(detector)
        self._kind, self._tracker, self._past = kind, Tracker(TrackingSettings(), WORKING), [math.inf] * LATE
        self._known: list[np.ndarray] = []  # boxes
        self._gate = MotionGate({"name": "", "ignore": (), "region": None})
        self._gate.on, self._gate._detector = True, shared[kind.model, tile]  # type: ignore[assignment]

    def sees(self, image: np.ndarray, people: Detections, moment: float) -> bool:
        every_s = self._past.pop(0)
        self._gate.watch_every_s = every_s if self._kind.follow else math.inf
        opens = self._gate.opens(image, moment)
        if opens:
            self._known = [track.box for track in self._tracker.update(people, moment)]
        self._past.append(self._tracker.watch_every_s)
        return opens

    def lost(self, people: Detections) -> int:
        """How many of them are not where somebody was in the latest frame that was analysed."""
        known = np.array(self._known, np.float32).reshape(-1, 4)
        return sum(not (iou(box[None], known) >= SAME_IOU).any() for box in people.boxes)


def _cut(image: np.ndarray, detections: Detections, tile: Tile) -> tuple[np.ndarray, Detections]:
    """A part of the picture, and the people whose centre lies in it."""
    height, width = image.shape[:2]
    x, y, w, h = (round(share * side) for share, side in zip(tile, (width, height) * 2, strict=True))
    centres = (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2 - (x, y)
    keep = ((centres >= 0) & (centres < (w, h))).all(1)
    return np.ascontiguousarray(image[y : y + h, x : x + w]), detections[keep]


def cost(model: str, width: int, height: int) -> float:
    """Seconds of processor time a frame, on a noisy scene."""
    cv2.setNumThreads(1)
    noise = np.random.default_rng(0)
    pictures = [noise.integers(90, 110, (height, width, 3), np.uint8) for _ in range(4)]
    detector = MotionDetector() if model == "ours" else BackgroundModel(model)
    for number in range(20):
        detector.see(pictures[number % 4], number / FPS)
    began = time.process_time()
    for number in range(100):
        detector.see(pictures[number % 4], (20 + number) / FPS)
    return (time.process_time() - began) / 100


if __name__ == "__main__":
    sys.exit(main())
