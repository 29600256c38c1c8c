"""From unlabelled footage to a data set: a detector finds people, tracks give them identities (broken ones are linked).

Frames and `people.json` (see `train/data/json_data.py`) are written into one folder. The end of each source can be held
out as a test split, whose queries are people who appear there for the first time.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from personsearch.core.errors import DataError
from personsearch.core.identification import normalised
from personsearch.core.pictures import write_picture
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Tracker, TrackingSettings
from personsearch.core.videos import Video
from personsearch.train.data.json_data import Frame, Person, QueryEntry, save_json
from personsearch.train.teaching.across import CameraTrack, Travel, link_cameras
from personsearch.train.teaching.linking import link_tracks

MAX_SIDE, JPEG_QUALITY = 1280, 95
# A track must not mix two people: better two identities for one person than one for two.
STRICT = TrackingSettings(buffer=0.1, min_overlap=0.3, lost_after_s=1.0)
LEAST_SIMILARITY = 0.2  # of a sighting to its track
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
    across: bool = False,
    travel: Travel | None = None,
) -> LabelledFrames:
    """Write a data set from video files, webcam numbers or stream URLs, each a camera of its own.

    detect      uint8 (h, w, 3) BGR -> (N, 4) boxes
    embed       (frame, boxes) -> (N, D) L2-normalised, for tracks; None: people without identities
    every       use every n-th frame
    max_frames  stop a source after so many used frames; 0 = at its end
    held_out    share of each source's end that becomes the test split
    across      link tracks of different sources as well, which began at one moment if `travel` is given
    travel      seconds (least, most) on the way between two sources, numbered from 1

    `people.json` is written last: a folder without it is an interrupted attempt. Raises DataError for a source that
    cannot be opened or holds no frame.
    """
    result = LabelledFrames()
    sighted: list[_Followed] = []
    tracks: list[CameraTrack] = []
    for camera, source in enumerate(sources, start=1):
        sighted.append(_label_source(source, camera, out, detect, embed, every, max_frames))
        tracks += sighted[-1].tracks.values()
    owner = link_cameras(tracks, travel) if across else list(range(len(tracks)))
    identities = {first: number for number, first in enumerate(sorted(set(owner)), start=1)}
    begin, named = 0, []
    for one in sighted:
        identity = {number: identities[owner[begin + i]] for i, number in enumerate(one.tracks)}
        begin += len(one.tracks)
        border = math.ceil(len(one.frames) * (1 - held_out)) if held_out else len(one.frames)
        named.append((border, [_named(f, row, identity) for f, row in zip(one.frames, one.rows, strict=True)]))
    known = {p.identity for border, frames in named for frame in frames[:border] for p in frame.people} - {None}
    for border, frames in named:
        result.frames += frames[:border]
        tested = [_as_test(frame, known) for frame in frames[border:]]
        result.frames += tested
        result.queries += _queries(tested)
    save_json(out, result.frames, result.queries, tracks=embed is not None)
    return result


def read_frames(source: str, every: int, max_frames: int = 0) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, uint8 (h, w, 3) BGR) of every n-th frame, reduced to a side of at most 1280 pixels."""
    video = Video(source)
    total = video.frames // every
    used = 0
    expected = min(total, max_frames or total) or max_frames or None
    with tqdm(total=expected, desc=Path(video.name).name, unit="frame") as bar:
        for _, seconds, image in islice(video.every(every), max_frames or None):
            shrink = min(1.0, MAX_SIDE / max(image.shape[:2]))
            if shrink < 1:
                image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            yield seconds, image
            used += 1
            bar.update()
    if not used:
        raise _empty(video)
    if video.gap:
        print(f"{video.name}: {video.gap}", file=sys.stderr)


def check_readable(source: str) -> None:
    """Raises DataError if not even one frame can be had."""
    video = Video(source)
    if next(video.every(1), None) is None:
        raise _empty(video)


def _empty(video: Video) -> DataError:
    return DataError(f"{video.name}: no frame could be decoded")


@dataclass
class _Followed:
    """One source: frames without identities, for each the track of every person (0: none, or too short to be somebody),
    and what is known of each track, in rising order."""

    frames: list[Frame]
    rows: list[list[int]]
    tracks: dict[int, CameraTrack]


def _label_source(
    source: str, camera: int, out: Path, detect: Detect, embed: Embed | None, every: int, max_frames: int
) -> _Followed:
    tracker, frames, rows, clock = Tracker(STRICT), list[Frame](), list[list[int]](), list[float]()
    sums: dict[int, np.ndarray] = {}
    for number, (seconds, image) in enumerate(read_frames(source, every, max_frames)):
        boxes = detect(image)
        clock.append(seconds)
        name = f"frames/c{camera}_{number:06d}.jpg"
        write_picture(out / name, image, JPEG_QUALITY)
        people = [Person(box=(float(x1), float(y1), float(x2 - x1), float(y2 - y1))) for x1, y1, x2, y2 in boxes]
        frames.append(Frame(file=name, camera=camera, people=tuple(people)))
        if embed is None:
            rows.append([0] * len(boxes))
            continue
        found = Detections(boxes, np.ones(len(boxes)), embed(image, boxes))
        rows.append(_followed(tracker, found, seconds, sums))
    counts = Counter(number for row in rows for number in row if number)
    steady = {n: sums[n] / max(float(np.linalg.norm(sums[n])), 1e-9) for n in sums if counts[n] >= MIN_SIGHTINGS}
    person = link_tracks(rows, steady)
    spans: dict[int, list[tuple[float, float]]] = {}
    looks: dict[int, np.ndarray] = {}
    for number in sorted(person):  # each piece that was followed, of the person whom linking made of them
        when = [seconds for seconds, row in zip(clock, rows, strict=True) if number in row]
        spans.setdefault(person[number], []).append((when[0], when[-1]))
        looks[person[number]] = looks.get(person[number], np.zeros_like(sums[number])) + sums[number]
    tracks = {
        number: CameraTrack(camera, np.array(spans[number]), normalised(looks[number])) for number in sorted(spans)
    }
    return _Followed(frames, [[person.get(number, 0) for number in row] for row in rows], tracks)


def _followed(tracker: Tracker, found: Detections, seconds: float, sums: dict[int, np.ndarray]) -> list[int]:
    """The track of each detection, 0 for none; `sums` of the embeddings of each track grow. A track that suddenly looks
    like somebody else is somebody else."""
    row = [0] * len(found)
    for track in tracker.update(found, seconds):
        embedding = found.embeddings[track.row]
        before = sums.get(track.number)
        if before is not None and embedding @ before < LEAST_SIMILARITY * np.linalg.norm(before):
            track = tracker.split(track)
        sums[track.number] = sums.get(track.number, np.zeros(len(embedding), np.float32)) + embedding
        row[track.row] = track.number
    return row


def _named(frame: Frame, tracks: list[int], identity: dict[int, int]) -> Frame:
    people = tuple(
        person.model_copy(update={"identity": identity.get(track)})
        for person, track in zip(frame.people, tracks, strict=True)
    )
    return frame.model_copy(update={"people": people})


def _as_test(frame: Frame, known: set[int | None]) -> Frame:
    """People who were seen before the border, of any source, lose their identity: the test is about new ones."""
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
