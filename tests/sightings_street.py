#!/usr/bin/env python
"""Sightings against the street's own truth: sightings per true visit, wrong names, strangers named, delay.

    python tests/sightings_street.py [--cameras 3] [--minutes 5] [--people 4] [--set sightings.grace_s=8] [--json FILE]
    python tests/sightings_street.py --data PEOPLE_MOT --camera 1 [--split 0.5]

Each person of the street walks through several cameras, behind posts and other people, leaves, comes back, and turns up
in another camera. Half of them are enrolled, from frames of camera 0 that show them clearly; cameras 1 and up are
analysed in step, frame by frame, by what the pipeline uses (model, people, sightings) but without its processes, so
that a busy machine changes nothing.
--data does the same with one camera of an annotated data set in PRW's layout, enrolled from its first part.

A true visit is a person's presence in any streamed camera without a gap of more than the grace time; visits beside or
around a gap that is within 2.5 s of the grace time are left out, because people are found a little after they come into
view and lost a little before they leave. A sighting is right if, where it was said, its person's annotated box is under
the box of the event (IoU >= 0.5). Sightings per visit count right sightings over the visits that were named at all. A
name is wrong from when it was said, unless `corrected` took it back; both are counted. Delay: from a visit's first
annotated frame to its first right name, in stream seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from figures import save_figures
from names_across import override, owner_of
from places import of_frames

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.pictures import read_picture
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.cameras.sources import open_source
from personsearch.runtime.decisions.announcer import Announcer
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.people import People
from personsearch.runtime.decisions.sightings import Sightings
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.settings import StreamSettings, default_bundle

FPS, CLEAR, TALL, ENROL_S = 10.0, 0.95, 90.0, 240.0
EDGE_S = 2.5  # gaps so near to the grace time decide nothing
Truths = dict[int, tuple[np.ndarray, np.ndarray]]  # frame -> boxes (N, 4) xyxy, identities (N,)


@dataclass
class Scene:
    """Cameras with their truth, and who can be enrolled: person -> pictures and boxes."""

    fps: float
    urls: dict[str, str]
    truths: dict[str, Truths]
    pictures: dict[int, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)

    def visits(self, gap_s: float) -> list[tuple[int, float, float]]:
        """Person, begin and end in stream seconds, over all cameras."""
        seen: dict[int, set[int]] = {}
        for truths in self.truths.values():
            for index, (_, identities) in truths.items():
                for identity in identities[identities >= 0].tolist():
                    seen.setdefault(identity, set()).add(index)
        found = []
        for person, frames in sorted(seen.items()):
            order = np.array(sorted(frames)) / self.fps
            for part in np.split(order, np.flatnonzero(np.diff(order) > gap_s) + 1):
                found.append((person, float(part[0]), float(part[-1])))
        return found

    def clear_visits(self, gap_s: float) -> list[tuple[int, float, float]]:
        """Those that are one visit, or several, whether people are found EDGE_S later and lost as much earlier."""
        joined = set(self.visits(gap_s + EDGE_S))
        return [visit for visit in self.visits(max(0.0, gap_s - EDGE_S)) if visit in joined]


def of_street(seed: int, cameras: int, minutes: float, people: int) -> Scene:
    """Camera 0 is there to enrol from; the others share its people."""
    identities = max(24, (cameras + 1) * people)
    street = Street(
        StreetSettings(seed=seed, cameras=cameras + 1, people=people, identities=identities, imbalance=0, fps=FPS)
    )
    frames = round(minutes * 60 * FPS)
    url = (
        f"synthetic://street?seed={seed}&cameras={cameras + 1}&people={people}&identities={identities}&imbalance=0"
        f"&fps={FPS:g}&frames={frames}"
    )
    names = {f"street-{number}": number for number in range(1, cameras + 1)}
    scene = Scene(FPS, {name: f"{url}&camera={number}" for name, number in names.items()}, {})
    for name, number in names.items():
        shown = {index: street.frame(number, index) for index in range(0, frames, 2)}
        scene.truths[name] = {index: (frame.boxes, frame.identities) for index, frame in shown.items()}
    for index in range(0, round(ENROL_S * FPS), 10):
        frame = street.frame(0, index)
        clear = (frame.visible >= CLEAR) & (frame.boxes[:, 3] - frame.boxes[:, 1] >= TALL) & (frame.boxes[:, 0] > 4)
        clear &= frame.boxes[:, 2] < frame.image.shape[1] - 4
        for box, identity in zip(frame.boxes[clear], frame.identities[clear].tolist(), strict=True):
            scene.pictures.setdefault(identity, []).append((frame.image, box))
    return scene


def of_data(root: Path, camera: str, split: float, folder: Path) -> Scene:
    first, second = of_frames(root, [camera, camera], split, folder)
    scene = Scene(second.fps, {"data": second.url}, {"data": second.truths})
    for person, pictures in first.pictures.items():
        scene.pictures[person] = [(read_picture(p.path), np.array(p.box, np.float32)) for p in pictures]
    return scene


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cameras", type=int, default=3, help="of the street that are streamed")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--people", type=int, default=4, help="of the street, at once in each camera")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="a data set in PRW's layout instead")
    parser.add_argument("--camera", default="1", help="of the data set")
    parser.add_argument("--split", type=float, default=0.5, help="share of its frames to enrol from")
    parser.add_argument("--views", type=int, default=3, help="pictures a person is enrolled with")
    parser.add_argument("--bundle", default=str(default_bundle()))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of cams.yaml")
    parser.add_argument("--verbose", action="store_true", help="also list visits with more than one sighting")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.data:
            scene = of_data(given.data, given.camera, given.split, Path(folder))
        else:
            scene = of_street(given.seed, given.cameras, given.minutes, given.people)
        content: dict[str, Any] = {
            "cameras": [{"name": name, "url": url, "pace": "fast"} for name, url in scene.urls.items()]
        }
        for change in given.set:
            override(content, change)
        settings = StreamSettings.model_validate(content)
        searcher = BundleSearcher(given.bundle)
        gallery, enrolled = enrol(scene, searcher, given.views, given.seed)
        events, matches = watch(scene, settings, searcher, gallery)
    figures = count(scene, events, enrolled, settings.sightings.grace_s, given.verbose) | {"match events": matches}
    for name, value in figures.items():
        print(f"{name}: {value}")
    if given.json:
        save_figures(given.json, figures)
    return 0


def watch(
    scene: Scene, settings: StreamSettings, searcher: BundleSearcher, gallery: Gallery
) -> tuple[list[dict[str, Any]], int]:
    """All cameras in step, to their ends: the events of sightings, and how many match events there would be."""
    people, sightings = People(settings, searcher.manifest, gallery), Sightings(settings, gallery)
    announcer, factory = Announcer(settings.match), EventFactory("street", searcher.manifest.model_hash)
    events: list[dict[str, Any]] = []
    sightings.listeners.append(lambda change: events.append(factory.sighting(change, gallery, time.time())))
    sources = {camera.name: open_source(camera.model_dump(mode="json")) for camera in settings.cameras}
    for camera in settings.cameras:
        people.add(camera)
    index = matches = 0
    while sources:
        moment = index / scene.fps
        for name, source in list(sources.items()):
            image = source.retrieve() if source.grab() else None
            if image is None:
                sightings.camera_state(name, "ended", "end")
                del sources[name]
                continue
            size = (image.shape[1], image.shape[0])
            frame = Frame(name, image, index, time.time(), time.monotonic(), moment, picture_size=size, moment=moment)
            people.see(frame, searcher.find([image], people.least_score)[0])
            asked = people.choose([name], frame.monotonic)
            people.learn(asked, searcher.describe([(want.picture, want.box) for _, want in asked]))
            found = people.decide(name)
            sightings.see(frame, people.of(name), found)
            matches += sum(announcer.due(name, match, moment) for match in found)
        index += 1
    sightings.close()
    return events, matches


def enrol(scene: Scene, searcher: BundleSearcher, views: int, seed: int) -> tuple[Gallery, dict[str, int]]:
    """Half of the people who walk by; the gallery, and whom each id in an event means."""
    present = {person for person, *_ in scene.visits(1.0)} & set(scene.pictures)
    people = np.random.default_rng(seed).permutation(sorted(present))[: max(1, len(present) // 2)]
    if not len(present):
        raise UserError("nobody who is streamed was seen clearly enough to be enrolled")
    gallery = Gallery(searcher.manifest.model_hash, searcher.dimensions)
    for person in people.tolist():
        pictures = scene.pictures[person]
        for image, box in pictures[:: max(1, len(pictures) // views)][:views]:
            gallery.add(f"P{person}", EnrolledView(searcher.embed(image, box[None])[0], "first"))
    return gallery, {gallery.id_of(f"P{person}"): person for person in people.tolist()}


def count(
    scene: Scene, events: list[dict[str, Any]], enrolled: dict[str, int], grace_s: float, verbose: bool = False
) -> dict[str, float | int | None]:
    """What was said in sightings, against the truth."""
    everybody = scene.visits(grace_s)
    visits = [visit for visit in scene.clear_visits(grace_s) if visit[0] in enrolled.values()]
    unclear = sum(visit[0] in enrolled.values() for visit in everybody) - len(visits)
    strangers = sum(visit[0] not in enrolled.values() for visit in everybody)
    said: dict[str, tuple[int, float, int]] = {}  # sighting -> name, when it was said, whose box was there
    taken_back: set[str] = set()
    kinds: Counter[str] = Counter()
    for event in events:
        kinds[event["change"]] += 1
        if event["change"] == "corrected":
            taken_back.add(event["sighting"])
        if event["sighting"] in said or event["person"] is None or event["frame"] is None:
            continue
        index = event["frame"]["index"]
        truths = scene.truths[event["camera"]]
        near = min((i for i in range(index - 2, index + 3) if i in truths), key=lambda i: abs(i - index), default=None)
        owner = -1 if near is None else owner_of(event["bounding_box"], truths[near])
        said[event["sighting"]] = (enrolled[event["person"]], index / scene.fps, owner)
    right: dict[int, list[tuple[str, float]]] = {}
    delays: dict[int, float] = {}
    wrong = wrong_kept = stranger_names = 0
    for sighting, (name, at, owner) in said.items():
        if owner < 0:  # nobody is annotated there
            continue
        if owner != name:
            wrong += owner in enrolled.values()
            stranger_names += owner not in enrolled.values()
            wrong_kept += sighting not in taken_back
            continue
        visit = next((n for n, (p, b, e) in enumerate(visits) if p == name and b - 1 <= at <= e + grace_s), None)
        if visit is not None:
            right.setdefault(visit, []).append((sighting, at))
            delays[visit] = min(delays.get(visit, np.inf), max(0.0, at - visits[visit][1]))
    for visit, parts in right.items() if verbose else ():
        if len(parts) > 1:
            print(f"P{visits[visit][0]} from {visits[visit][1]:.1f} to {visits[visit][2]:.1f} s: {parts}")
    seconds = max(max(truths) for truths in scene.truths.values()) / scene.fps
    hours = seconds * len(scene.truths) / 3600
    waits = list(delays.values())
    return {
        "cameras": len(scene.truths), "camera-hours": round(hours, 3), "enrolled": len(enrolled),
        "true visits of the enrolled": len(visits), "left out": unclear, "named": len(right),
        "sightings per named visit": round(sum(map(len, right.values())) / max(1, len(right)), 3),
        "visits of strangers": strangers, "strangers named": stranger_names,
        "strangers named per camera-day": round(stranger_names / hours * 24, 1),
        "wrong names of the enrolled per hour": round(wrong / hours, 2),
        "wrong names that were not taken back": wrong_kept,
        "seconds to the first right name, median": round(float(np.median(waits)), 2) if waits else None,
        "seconds to the first right name, p95": round(float(np.percentile(waits, 95)), 2) if waits else None,
        **{f"events {kind}": kinds[kind] for kind in ("started", "updated", "corrected", "ended")},
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
