"""From unlabelled footage to a data set: a detector finds people, tracks give them identities (broken ones are linked).

Frames and `people.json` (see `train/json_data.py`) are written into one folder. The end of each source can be held out
as a test split, whose queries are people who appear there for the first time.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from personsearch.core.errors import DataError
from personsearch.core.records import Detections
from personsearch.core.tracker import Tracker, TrackingSettings
from personsearch.train.json_data import Frame, Person, QueryEntry, save_json
from personsearch.train.linking import link_tracks

MAX_SIDE, JPEG_QUALITY = 1280, 95
USUAL_FPS = 25.0
# A track must not mix two people: better two identities for one person than one for two.
STRICT = TrackingSettings(min_iou=0.3, min_similarity=0.6, lost_after_s=1.0)
MIN_SIGHTINGS = 4  # shorter tracks stay without an identity
QUERIES = (1 / 6, 1 / 2, 5 / 6)  # which of a new person's sightings ask for the others

Detect = Callable[[np.ndarray], np.ndarray]
Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass
class LabelledFrames:
    frames: list[Frame] = field(default_factory=list)
    queries: list[QueryEntry] = field(default_factory=list)

    @property
    def people(self) -> int:
        return sum(len(frame.people) for frame in self.frames)

    @property
    def identities(self) -> int:
        return len({p.identity for frame in self.frames for p in frame.people} - {None})


def label_footage(
    sources: Sequence[str],
    out: Path,
    detect: Detect,
    embed: Embed | None = None,
    *,
    every: int = 4,
    max_frames: int = 0,
    held_out: float = 0.0,
) -> LabelledFrames:
    """Write a data set from video files, webcam numbers or stream URLs, each a camera of its own.

    detect      uint8 (h, w, 3) BGR -> (N, 4) boxes
    embed       (frame, boxes) -> (N, D) L2-normalised, for tracks; None: people without identities
    every       use every n-th frame
    max_frames  stop a source after so many used frames; 0 = at its end
    held_out    share of each source's end that becomes the test split

    `people.json` is written last: a folder without it is an interrupted attempt. Raises DataError for a source that
    cannot be opened or holds no frame.
    """
    (out / "frames").mkdir(parents=True, exist_ok=True)
    result = LabelledFrames()
    next_identity = 1
    for camera, source in enumerate(sources, start=1):
        frames, tracks = _label_source(source, camera, out, detect, embed, every, max_frames)
        numbers = sorted({track for row in tracks for track in row if track})
        identity = {track: next_identity + i for i, track in enumerate(numbers)}
        next_identity += len(identity)
        border = math.ceil(len(frames) * (1 - held_out)) if held_out else len(frames)
        known = {identity[t] for row in tracks[:border] for t in row if t in identity}
        named = [_named(f, row, identity) for f, row in zip(frames, tracks, strict=True)]
        result.frames += named[:border]
        tested = [_as_test(frame, known) for frame in named[border:]]
        result.frames += tested
        result.queries += _queries(tested)
    save_json(out, result.frames, result.queries, tracks=embed is not None)
    return result


def read_frames(source: str, every: int, max_frames: int = 0) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, uint8 (h, w, 3) BGR) of every n-th frame, reduced to a side of at most 1280 pixels."""
    webcam = re.fullmatch(r"\d{1,3}", source) is not None
    capture = cv2.VideoCapture(int(source) if webcam else source)
    shown = re.sub(r"//[^/@]*@", "//", source)  # without a password
    if not capture.isOpened():
        raise DataError(f"{shown}: cannot be opened as a video; give a file, a webcam number or a stream URL")
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if np.isfinite(fps) and 0 < fps <= 240 else USUAL_FPS
    total = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) // every
    used, number = 0, 0
    try:
        expected = min(total, max_frames or total) or max_frames or None
        with tqdm(total=expected, desc=Path(shown).name, unit="frame") as bar:
            while not max_frames or used < max_frames:
                if not capture.grab():
                    break
                if number % every == 0:
                    ok, image = capture.retrieve()
                    if ok:
                        shrink = min(1.0, MAX_SIDE / max(image.shape[:2]))
                        if shrink < 1:
                            image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
                        yield number / fps, image
                        used += 1
                        bar.update()
                number += 1
    finally:
        capture.release()
    if not used:
        raise DataError(f"{shown}: no frame could be decoded")


def _label_source(
    source: str, camera: int, out: Path, detect: Detect, embed: Embed | None, every: int, max_frames: int
) -> tuple[list[Frame], list[list[int]]]:
    """Frames without identities, and for each the track of every person (0: none, or too short to be somebody)."""
    tracker, frames, rows = Tracker(STRICT), [], []
    sums: dict[int, np.ndarray] = {}
    for number, (seconds, image) in enumerate(read_frames(source, every, max_frames)):
        boxes = detect(image)
        name = f"frames/c{camera}_{number:06d}.jpg"
        cv2.imwrite(str(out / name), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        people = [Person(box=(float(x1), float(y1), float(x2 - x1), float(y2 - y1))) for x1, y1, x2, y2 in boxes]
        frames.append(Frame(file=name, camera=camera, people=tuple(people)))
        if embed is None:
            rows.append([0] * len(boxes))
            continue
        found = Detections(boxes, np.ones(len(boxes)), embed(image, boxes))
        rows.append([track.number for track in tracker.update(found, seconds)])
        for number, embedding in zip(rows[-1], found.embeddings, strict=True):
            sums[number] = sums.get(number, 0) + embedding
    counts = Counter(number for row in rows for number in row)
    steady = {n: sums[n] / max(float(np.linalg.norm(sums[n])), 1e-9) for n in sums if counts[n] >= MIN_SIGHTINGS}
    person = link_tracks(rows, steady)
    return frames, [[person.get(number, 0) for number in row] for row in rows]


def _named(frame: Frame, tracks: list[int], identity: dict[int, int]) -> Frame:
    people = tuple(
        person.model_copy(update={"identity": identity.get(track)})
        for person, track in zip(frame.people, tracks, strict=True)
    )
    return frame.model_copy(update={"people": people})


def _as_test(frame: Frame, known: set[int]) -> Frame:
    """People who were seen before the border lose their identity: the test is about new ones."""
    people = tuple(p.model_copy(update={"identity": None}) if p.identity in known else p for p in frame.people)
    return frame.model_copy(update={"split": "test", "people": people})


def _queries(frames: list[Frame]) -> list[QueryEntry]:
    """Each new person early, in the middle and late; only in the middle whoever is seen in few frames."""
    seen: dict[int, list[tuple[str, Person]]] = {}
    for frame in frames:
        for person in frame.people:
            if person.identity is not None:
                seen.setdefault(person.identity, []).append((frame.file, person))
    queries = []
    for identity, places in sorted(seen.items()):
        shares = QUERIES if len(places) >= 2 * len(QUERIES) else (0.5,)
        chosen = [places[int(share * len(places))] for share in shares] if len(places) >= 2 else []
        queries += [QueryEntry(file=file, box=person.box, identity=identity) for file, person in chosen]
    return queries
