"""One segment through the runtime's own parts: found, followed, described, made visits of, as a stream would."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from personsearch.archive.parts import Edge, Part, Row
from personsearch.archive.pictures import Pictures, Segment
from personsearch.archive.scan import nothing_moves
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.cameras.motion import MotionGate, within
from personsearch.runtime.cameras.preparing import prepare
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.people import People
from personsearch.runtime.decisions.sighting import Sighting, Stay
from personsearch.runtime.decisions.sightings import Sightings
from personsearch.runtime.decisions.zones import outside_zones
from personsearch.runtime.history.crops import BestPictures
from personsearch.runtime.settings import StreamSettings

# Nobody is named here, so there is no hurry: fewer and more different views, unless the file says otherwise. They give
# visits as pure and found as well as a stream's (docs/archive.md), and describing is half of the work in a crowd.
DESCRIBE = {"first_views": 3, "first_every_s": 0.3, "doubt_every_s": 0.5}


@dataclass(frozen=True)
class Options:
    """What is asked of every segment; travels to workers.

    fps        pictures a second that are analysed at most; 0: all
    overlap_s  seconds of the next segment that are followed too, so that visits can be joined by their boxes
    motion     leave out segments, and pictures, in which nothing moves
    views      best views of a visit that are kept besides their mean
    """

    bundle: str
    engine: str = "auto"
    settings: StreamSettings | None = None  # cams.yaml's; None: the defaults
    fps: float = 10.0
    overlap_s: float = 2.0
    motion: bool = True
    views: int = 5
    crops: bool = False

    def of_camera(self, name: str) -> StreamSettings:
        """The settings with this camera alone, as a file."""
        known = {camera.name: camera for camera in self.settings.cameras} if self.settings else {}
        file = {"url": "archive", "pace": "fast", "max_fps": self.fps, "next_to": {}}
        camera = known.get(name, CameraSettings(name=name, url="archive")).model_copy(update=file)
        settings = self.settings or StreamSettings(cameras=(camera,))
        ours = {key: value for key, value in DESCRIBE.items() if key not in settings.describe.model_fields_set}
        return settings.model_copy(update={"cameras": (camera,), "describe": settings.describe.model_copy(update=ours)})


class Analyst:
    """A loaded model and what it makes of segments. One a process."""

    def __init__(self, options: Options) -> None:
        """Raises UserError if the bundle or engine cannot be used."""
        cv2.setNumThreads(1)  # one core a worker
        self.options = options
        self.searcher = BundleSearcher(options.bundle, options.engine, threads=1)

    def analyse(self, segment: Segment) -> Part:
        """Raises Damaged for a segment of which nothing can be read, OSError for a file that cannot be reached."""
        began, cpu = time.monotonic(), time.process_time()
        settings = self.options.of_camera(segment.video.camera)
        part = self._still(segment, settings)
        if part is None:
            part = _Watching(segment, settings, self.options, self.searcher).whole()
        part.about["wall_s"] = round(time.monotonic() - began, 3)
        part.about["cpu_s"] = round(time.process_time() - cpu, 3)
        return part

    def _still(self, segment: Segment, settings: StreamSettings) -> Part | None:
        camera = settings.cameras[0]
        options = camera.model_dump(mode="json")
        if not self.options.motion or not nothing_moves(
            segment,
            within(camera.ignore, camera.region),
            lambda image: prepare(image, options)[0],
            lambda image: bool(len(self.searcher.find([image])[0])),
            settings.scheduling.look_every_s,
        ):
            return None
        return Part.of(segment, "still", dimensions=self.searcher.dimensions)


@dataclass
class _Span:
    """Where a visit was first and last seen."""

    first_box: np.ndarray
    last_box: np.ndarray


@dataclass
class _Watching:
    segment: Segment
    settings: StreamSettings
    options: Options
    searcher: BundleSearcher
    spans: OrderedDict[str, _Span] = field(default_factory=OrderedDict)
    stays: list[tuple[Sighting, Stay]] = field(default_factory=list)
    border: list[tuple[float, str, np.ndarray]] = field(default_factory=list)  # moment, visit, box, near the borders

    def whole(self) -> Part:
        settings, options, segment = self.settings, self.options, self.segment
        camera, manifest = settings.cameras[0], self.searcher.manifest
        gallery = Gallery(manifest.model_hash, manifest.dimensions)  # nobody: names are found when they are searched
        people, sightings = People(settings, manifest, gallery, self.searcher.engine.name), Sightings(settings, gallery)
        people.add(camera)
        sightings.stay_listeners.append(lambda sighting, stay: self.stays.append((sighting, stay)))
        how = camera.model_dump(mode="json")
        gate = MotionGate(how)
        gate.on, gate.look_every_s = options.motion, settings.scheduling.look_every_s
        best = BestPictures(Path(), 0) if options.crops else None
        pictures = Pictures(segment, options.fps, options.overlap_s)
        analysed = 0
        for moment, picture in pictures:
            image, offset, scale, size = prepare(picture, how)
            gate.watch_every_s = people.watch_every_s(camera.name)
            if not gate.opens(image, moment):
                continue
            wall = segment.video.started + moment
            frame = Frame(
                camera.name, image, analysed, wall, time.monotonic(), moment, offset, scale, size, moment=moment
            )
            self._see(frame, people, sightings, camera)
            if best is not None:
                best.see(frame, people.of(camera.name).tracks)
            self._mark(frame, sightings, people, pictures)
            analysed += 1
        sightings.close()
        part = Part.of(segment, "analysed", dimensions=self.searcher.dimensions)
        begin = pictures.begin if not math.isinf(segment.begin_s) else min(0.0, pictures.begin)
        part.about |= {
            "begin": _number(begin), "end": _number(pictures.end), "until": _number(pictures.until),
            "decoded": pictures.decoded, "analysed": analysed, "described": people.of(camera.name).described,
            "bad_packets": pictures.bad, "note": pictures.note,
        }  # fmt: skip
        if not pictures.decoded:
            part.about["state"] = "empty"
        elif pictures.note:
            part.about["state"] = "damaged"
        self._fill(part, pictures, best)
        return part

    def _see(self, frame: Frame, people: People, sightings: Sightings, camera: CameraSettings) -> None:
        """What `Pipeline` does with a file's frame, one after the other."""
        found = self.searcher.find([frame.image], people.least_score)[0]
        people.see(frame, outside_zones(found, frame, camera))
        asked = people.choose([camera.name], frame.monotonic)
        if asked:
            people.learn(asked, self.searcher.describe([(want.picture, want.box) for _, want in asked]))
        sightings.see(frame, people.of(camera.name), people.decide(camera.name))

    def _mark(self, frame: Frame, sightings: Sightings, people: People, pictures: Pictures) -> None:
        overlap = self.options.overlap_s
        head = not math.isinf(self.segment.begin_s) and frame.moment < pictures.begin + overlap
        tail = frame.moment >= pictures.end
        for track in people.of(frame.camera).tracks:
            sighting = sightings.sighting_of(frame.camera, track.number)
            if sighting is None:
                continue
            box = frame.to_picture(np.asarray(track.box)).astype(np.float32)
            span = self.spans.get(sighting.id)
            if span is None:
                self.spans[sighting.id] = _Span(box, box)
            else:
                span.last_box = box
            if head or tail:
                self.border.append((frame.moment, sighting.id, box))

    def _fill(self, part: Part, pictures: Pictures, best: BestPictures | None) -> None:
        """Rows of the visits that began in the segment; those that began behind its end are the next one's."""
        video, numbers, kept = self.segment.video, {}, self.options.views
        end = math.inf if math.isnan(pictures.end) else video.started + pictures.end
        for sighting, stay in sorted(self.stays, key=lambda item: (item[1].started, item[1].track)):
            if not stay.views or stay.started >= end:
                continue
            span = self.spans.get(sighting.id, _Span(stay.views[0].box, stay.views[0].box))
            number = numbers[sighting.id] = len(part.rows)
            crop = best.take(stay.camera, stay.track) if best is not None else b""
            part.rows.append(Row.of(
                self.segment, number, stay.started, stay.ended, stay.track, stay.views, kept, span.first_box,
                span.last_box, crop,
            ))  # fmt: skip
        part.edges = [Edge(at, numbers[visit], box) for at, visit, box in self.border if visit in numbers]


def _number(value: float) -> float | None:
    """For JSON, which has no nan."""
    return None if math.isnan(value) else round(value, 6)


def settings_of(options: Options) -> Mapping[str, object]:
    """What an index depends on, for JSON: an index is made with one of it."""
    told: dict[str, object] = {
        "fps": options.fps, "overlap_s": options.overlap_s, "motion": options.motion, "views": options.views,
        "crops": options.crops,
    }  # fmt: skip
    if options.settings is not None:
        keys = {"cameras", "tracking", "describe", "sightings", "scheduling", "min_score"}
        shown = options.settings.model_dump(mode="json", include=keys)
        told["settings"] = shown | {"cameras": [{**c, "url": ""} for c in shown["cameras"]]}  # no passwords
    return told
