#!/usr/bin/env python
"""Enrol people, stream a real video, and count right and wrong names against its ground truth.

    python tests/real_video.py --data PEOPLE_MOT --video vtest.avi [--people 3] [--json FILE] [--record DIR]
    python tests/real_video.py --data DIR --camera N     with DIR from tests/split_camera.py --camera N --start 0

PEOPLE_MOT is a data set in PRW's layout whose camera c4 shows the video: ground-truth frame k is its frame k - 1.
Without --video, a camera's test frames become one.
The people with the most appearances are enrolled from their queries by runtime/enroll.py; runtime/stream.py reads the
video as fast as it can, and runtime/subscribe.py hears the events.
An appearance counts as reported if an event names the person there (IoU >= 0.5 with the annotated box). Frames that
a person was enrolled from do not count, and neither do names given to somebody whom the ground truth leaves without an
identity: often they are the same people, mostly hidden. The ground truth gives people who leave and come back a new
number; where pictures show that two numbers are one person (tests/ground_truth.py), they count as one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from box_run import REPOSITORY, enrol, hear_matches
from ground_truth import one_number_each
from split_camera import write_video

from personsearch.core.boxes import iou
from personsearch.core.errors import UserError, run_main
from personsearch.core.metrics import frame_number
from personsearch.core.records import ImageTruth, Query
from personsearch.train.data.prw import load_prw

SAME_IOU = 0.5


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a data set in PRW's layout")
    parser.add_argument("--video", default="", help="vtest.avi (default: the camera's frames)")
    parser.add_argument("--camera", type=int, default=4, help="the data set's camera (default: 4)")
    parser.add_argument("--bundle", default=str(REPOSITORY / "models" / "edge"))
    parser.add_argument("--people", type=int, default=3, help="how many to enrol")
    parser.add_argument("--threshold", type=float, default=None, help="similarity (default: the bundle's)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    parser.add_argument("--record", default="", metavar="DIR", help="write annotated video there")
    arguments = parser.parse_args()
    if arguments.video and not Path(arguments.video).is_file():
        raise UserError(f"{arguments.video}: no such video")
    data = load_prw(arguments.data, "test")
    truths = [one_number_each(t) for t in data.images if t.camera == arguments.camera]
    if not truths:
        raise UserError(f"{arguments.data}: no test frame of camera {arguments.camera}")
    appearances = Counter(int(i) for t in truths for i in t.identities if i >= 0)
    queried = {q.identity for q in data.queries}
    chosen = [i for i, _ in appearances.most_common() if i in queried][: arguments.people]
    queries = [q for q in data.queries if q.identity in chosen]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.video:
            video = Path(arguments.video)
            places = {truth.name: frame_number(truth.name) - 1 for truth in truths}
        else:
            video = Path(folder) / "frames.avi"
            write_video(video, truths)
            places = {truth.name: position for position, truth in enumerate(truths)}
        events, log = stream(Path(folder), video, arguments, queries, {t.name: t for t in truths})
    print(log.strip().splitlines()[-1])
    figures = count(events, truths, places, chosen, {(q.image, q.identity) for q in queries})
    print(f"enrolled {len(chosen)} people from {len(queries)} pictures; {len(events)} match events")
    print("appearances of enrolled people in annotated frames: {appearances}".format(**figures))
    print("  reported under the right name: {right} ({recall:.1%})".format(**figures))
    print("names given in annotated frames: {names}".format(**figures))
    print("  wrong: {wrong} ({wrong_share:.1%}); besides, {undecided} for people without an identity".format(**figures))
    if arguments.json:
        command = f"python tests/real_video.py --data {Path(arguments.data).name} --people {arguments.people}"
        command += f" --video {video.name}" if arguments.video else f" --camera {arguments.camera}"
        content = {"command": command, "machine": "2 cores, no GPU", **figures}
        Path(arguments.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def stream(
    folder: Path, video: Path, arguments: argparse.Namespace, queries: list[Query], truths: dict[str, ImageTruth]
) -> tuple[list[dict], str]:
    """The match events of the whole video, through the real programs."""
    gallery = folder / "people.gallery"
    for query in queries:
        enrol(arguments.bundle, gallery, f"P{query.identity}", truths[query.image].path, query.box)
    match = {"repeat_s": 0} | ({} if arguments.threshold is None else {"threshold": arguments.threshold})
    settings = {
        "bundle": arguments.bundle, "gallery": str(gallery), "match": match,
        "cameras": [{"name": "square", "url": str(video.resolve()), "pace": "fast"}],
    }  # fmt: skip
    return hear_matches(folder, settings, arguments.record)


def count(
    events: list[dict],
    truths: list[ImageTruth],
    places: dict[str, int],
    chosen: list[int],
    enrolled_from: set[tuple[str, int]],
) -> dict[str, float]:
    """Right and wrong names on the annotated frames, which are the video's frames at `places`."""
    by_frame: dict[int, list[dict]] = {}
    for event in events:
        by_frame.setdefault(event["frame"]["index"], []).append(event)
    total = right = names = wrong = undecided = 0
    for truth in truths:
        present = {int(i) for i in truth.identities if int(i) in chosen and (truth.name, int(i)) not in enrolled_from}
        total += len(present)
        for event in by_frame.get(places[truth.name], []):
            b = event["bounding_box"]
            box = np.array([[b["x"], b["y"], b["x"] + b["w"], b["y"] + b["h"]]], np.float32)
            overlap = iou(box, truth.boxes)[0] if len(truth.boxes) else np.zeros(0)
            best = int(overlap.argmax()) if len(overlap) else -1
            found = best >= 0 and overlap[best] >= SAME_IOU
            owner = int(truth.identities[best]) if found else -1
            named = int(event["person"][1:])
            if found and owner < 0:
                undecided += 1
                continue
            names += 1
            wrong += owner != named
            if owner == named and named in present:
                present.discard(named)
                right += 1
    return {
        "people": len(chosen), "appearances": total, "right": right, "recall": right / max(1, total),
        "names": names, "wrong": wrong, "wrong_share": wrong / max(1, names), "undecided": undecided,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
