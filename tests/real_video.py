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
number; where pictures show that two numbers are one person (SECOND_NUMBERS), they count as one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from split_camera import write_video

from personsearch.core.boxes import iou
from personsearch.core.errors import UserError, run_main
from personsearch.core.metrics import frame_number
from personsearch.core.records import ImageTruth, Query
from personsearch.train.prw import load_prw

REPOSITORY = Path(__file__).resolve().parent.parent
SAME_IOU = 0.5
SECOND_NUMBERS = {91: 85, 95: 80, 82: 88}  # seen by eye: same face, hair, jacket, trousers and shoes


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


def one_number_each(truth: ImageTruth) -> ImageTruth:
    identities = np.array([SECOND_NUMBERS.get(int(i), int(i)) for i in truth.identities], np.int64)
    return replace(truth, identities=identities)


def stream(
    folder: Path, video: Path, arguments: argparse.Namespace, queries: list[Query], truths: dict[str, ImageTruth]
) -> tuple[list[dict], str]:
    """The match events of the whole video, through the real programs."""
    gallery, endpoint = folder / "people.gallery", f"ipc://{folder}/events"
    for query in queries:
        x1, y1, x2, y2 = query.box
        run("runtime/enroll.py", "--bundle", arguments.bundle, "--gallery", gallery, "--name", f"P{query.identity}",
            "--image", truths[query.image].path, "--box", f"{x1},{y1},{x2 - x1},{y2 - y1}")  # fmt: skip
    match = {"repeat_s": 0} | ({} if arguments.threshold is None else {"threshold": arguments.threshold})
    (folder / "cams.yaml").write_text(yaml.safe_dump({
        "bundle": arguments.bundle, "gallery": str(gallery), "match": match,
        "cameras": [{"name": "square", "url": str(video.resolve()), "pace": "fast"}],
        "publish": {"endpoint": endpoint, "replay": f"ipc://{folder}/replay"},
    }), encoding="utf-8")  # fmt: skip
    heard = folder / "events.jsonl"
    with open(heard, "w") as file:
        listener = subprocess.Popen(
            [sys.executable, "runtime/subscribe.py", "--connect", endpoint, "--topic", "match.", "--json"],
            cwd=REPOSITORY, stdout=file, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            record = ["--record", arguments.record] if arguments.record else []
            log = run("runtime/stream.py", "--cams", folder / "cams.yaml", *record)
            time.sleep(1.0)  # the socket's last events
        finally:
            listener.send_signal(signal.SIGINT)
            listener.wait(10)
    return [json.loads(line) for line in heard.read_text().splitlines()], log


def run(*command: object) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, command)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise UserError(f"{command[0]} ended with {result.returncode}: {result.stderr.strip()[-400:]}")
    return result.stdout


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
