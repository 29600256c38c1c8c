#!/usr/bin/env python
"""The whole way on synthetic cameras: enrol two people, stream, publish, and count right and wrong names.

`runtime/demo.py [--seconds 20] [--cameras 2] [--record DIR]` needs no file from outside the repository.
With `--page` it serves the operator's page instead, until Ctrl-C: open the link that it prints.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from personsearch.core.boxes import iou
from personsearch.core.commands import command_line, within
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.street.street import Street, StreetSettings
from personsearch.core.tracking.tracker import Track
from personsearch.runtime import stream
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.operations.status import summary
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.recording.recorder import Recorder
from personsearch.runtime.settings import MatchSettings, PublishSettings, RecordSettings, StreamSettings, default_bundle
from personsearch.runtime.subscribe import describe

ENROLMENT_FRAMES, VIEWS, CLEAR = 600, 3, 0.95


def main() -> int:
    return run_main(_main)


@dataclass
class Score:
    """Names against the street's own truth, one count per sighting of an analysed frame."""

    street: Street
    names: dict[int, str]
    camera_numbers: dict[str, int]
    counts: Counter = field(default_factory=Counter)

    def watch(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        truth = self.street.frame(self.camera_numbers[frame.camera], frame.index)
        present = {self.names[int(i)] for i in truth.identities if int(i) in self.names}
        for match in matches:
            owner = None
            if len(truth.boxes):
                overlap = iou(match.track.box[None], truth.boxes)[0]
                if overlap.max() >= 0.4:
                    owner = self.names.get(int(truth.identities[overlap.argmax()]))
            right = owner == match.person
            self.counts["right" if right else "wrong"] += 1
            if right:
                present.discard(match.person)
        self.counts["missed"] += len(present)


def enrol_from_street(
    street: Street, searcher: BundleSearcher, gallery: Gallery, people: int, seconds: float
) -> dict[int, str]:
    """Enrol people, each with up to three clear views from camera 0: those who will walk past the other cameras
    most often during the demo, because nobody else could be recognised there."""
    visits = Counter(
        person[0]
        for camera in range(1, street.settings.cameras)
        for second in range(int(seconds) + 1)
        for person in street.people(camera, second)
    )
    views: dict[int, list[tuple[int, np.ndarray]]] = {}
    for number in range(0, ENROLMENT_FRAMES, 15):
        frame = street.frame(0, number)
        for box, identity, visible in zip(frame.boxes, frame.identities, frame.visible, strict=True):
            if visible >= CLEAR and box[0] > 4 and box[2] < frame.image.shape[1] - 4:
                views.setdefault(int(identity), []).append((number, box))
    chosen = [i for i, _ in visits.most_common() if i in views][:people]
    if len(chosen) < people:
        raise UserError(f"only {len(chosen)} of {people} people were seen clearly on this street; try another --seed")
    for identity in chosen:
        spread = views[identity][:: max(1, len(views[identity]) // VIEWS)][:VIEWS]
        for number, box in spread:
            embedding = searcher.embed(street.frame(0, number).image, box[None])[0]
            gallery.add(f"Person {identity}", EnrolledView(embedding, "street-0"))
    return {i: f"Person {i}" for i in chosen}


def _with_page(gallery: Gallery, urls: list[str], bundle: str, endpoint: str) -> int:
    """The same as a stream with files of its own, which the page may change; they are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="personsearch-demo-") as name:
        folder = Path(name)
        save_gallery(gallery, folder / "people.gallery")
        content = {
            "box": "demo", "gallery": str(folder / "people.gallery"), "status_every_s": 3600,
            "cameras": [{"name": f"street-{i}", "url": url} for i, url in enumerate(urls, start=1)],
            "match": {"candidates": True}, "publish": {"endpoint": endpoint},
            "page": {"enabled": True, "port": 0, "users": str(folder / "page.users")},
            "history": {"path": str(folder / "history"), "crops": True}, "audit": {"path": str(folder / "audit")},
        }  # fmt: skip
        (folder / "cams.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return stream.main(["--cams", str(folder / "cams.yaml"), "--bundle", bundle])


def _main() -> int:
    parser = command_line(__doc__)
    seconds = within(float, 0, 86_400)
    parser.add_argument("--seconds", type=seconds, default=None, help="length of the demo (default 20, --page: no end)")
    parser.add_argument("--page", action="store_true", help="serve the operator's page (needs personsearch[page])")
    parser.add_argument("--cameras", type=int, default=2, help="synthetic cameras besides the enrolment camera")
    parser.add_argument("--seed", type=within(int, 0), default=7, help="which street")
    parser.add_argument("--bundle", default="", help="bundle folder (default: models/edge)")
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:*", help="where to publish")
    parser.add_argument("--record", default="", metavar="DIR", help="write annotated video there")
    arguments = parser.parse_args()
    endless = arguments.page and arguments.seconds is None
    arguments.seconds = 20.0 if arguments.seconds is None else arguments.seconds
    if arguments.seconds <= 0 or not 1 <= arguments.cameras <= 8:
        raise UserError("--seconds must be positive and --cameras 1 to 8")
    cameras, people, fps = arguments.cameras + 1, 5, 10
    identities = cameras * people
    street = Street(StreetSettings(seed=arguments.seed, cameras=cameras, people=people, identities=identities, fps=fps))
    bundle = arguments.bundle or default_bundle()
    searcher = BundleSearcher(bundle)
    gallery = Gallery(searcher.manifest.model_hash, searcher.dimensions)
    names = enrol_from_street(street, searcher, gallery, 2, arguments.seconds)
    print(f"enrolled {', '.join(names.values())} from camera 0; engine {searcher.engine.name}")
    url = (
        f"synthetic://street?seed={arguments.seed}&cameras={cameras}&people={people}&identities={identities}"
        f"&fps={fps}{'' if endless else f'&frames={int(arguments.seconds * fps)}'}"
    )
    if arguments.page:
        return _with_page(gallery, [f"{url}&camera={i}" for i in range(1, cameras)], str(bundle), arguments.endpoint)
    settings = StreamSettings(
        cameras=tuple(CameraSettings(name=f"street-{i}", url=f"{url}&camera={i}") for i in range(1, cameras)),
        match=MatchSettings(repeat_s=2.0),
        publish=PublishSettings(endpoint=arguments.endpoint),
    )
    score = Score(street, names, {f"street-{i}": i for i in range(1, cameras)})
    record = RecordSettings(mode="all", folder=arguments.record)
    recorder = Recorder(record, limited=False) if arguments.record else None
    publisher = Publisher(settings.publish, box=settings.box)

    def publish(event: dict) -> None:
        publisher.publish(event)
        print(describe(event), flush=True)

    print(f"events on {publisher.endpoint}; watch them with personsearch-subscribe --connect {publisher.endpoint}")
    pipeline = Pipeline(settings, bundle, searcher.manifest, gallery, publish)
    pipeline.watchers.append(score.watch)
    if recorder:
        pipeline.watchers.append(recorder.write)
    try:
        pipeline.run()
    finally:
        if recorder:
            recorder.close()
        publisher.close()
    print(summary(pipeline))
    counts = score.counts
    print(
        f"sightings of people on all frames: named right {counts['right']}, named wrong {counts['wrong']}, "
        f"enrolled but not named {counts['missed']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
