#!/usr/bin/env python
"""Score the tracker, or one of other people's, on annotated cameras: HOTA, IDF1, MOTA, switches, tracks.

    python tests/tracking.py --data PEOPLE_MOT [--video vtest.avi] [--detections FILE.npz] [--tracker ours|bytetrack|
        ocsort|botsort|cbiou] [--looks COSINE] [--save FILE.npz] [--json FILE]

Needs `pip install trackeval`, and `trackers` for the others' trackers. PEOPLE_MOT is a data set in PRW's layout with
c1 (MOT16-11, 30 fps), c2 (TUD-Campus, 25), c3 (KITTI-17, 10) and c4 (PETS09-S2L1, 10), whose numbers tell the time.
With --video, c4 is tracked on all frames of that video, whose frame k - 1 is ground-truth frame k, and scored on the
annotated ones. Detections come from the bundle, or from a file with the arrays NAME|b (N, 4) and NAME|s (N,).

What is scored is what the runtime would show: sightings of confirmed tracks (of the others' trackers, with a number).
As in MOTChallenge, detections of people without a usable identity count neither way. --looks: new tracks are compared
with lost ones by a few embeddings each, and go on under the old number from that cosine.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from ground_truth import one_number_each
from scipy.optimize import linear_sum_assignment

from personsearch.core.boxes import iou
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.metrics import frame_number
from personsearch.core.records import Detections, ImageTruth
from personsearch.core.tracking.reunite import reunite
from personsearch.core.tracking.tracker import Track, Tracker, TrackingSettings
from personsearch.train.data.prw import load_prw
from personsearch.train.data.samples import read_image

REPOSITORY = Path(__file__).resolve().parent.parent
FPS = {1: 30.0, 2: 25.0, 3: 10.0, 4: 10.0}  # of the cameras' sources
LEAST, START = 0.1, 0.3  # scores of detections: of any use, and the shipped bundle's working point
SAME_IOU = 0.5
CLEAR_VIEW = 0.3  # share of a box that may be covered
ASKED = (2, 3, 5)  # after so many embeddings a new track is compared with lost ones
OTHERS = {
    "bytetrack": "ByteTrackTracker",
    "ocsort": "OCSORTTracker",
    "botsort": "BoTSORTTracker",
    "cbiou": "CBIoUTracker",
}
Rows = dict[str, tuple[np.ndarray, list[int]]]  # by frame: boxes and numbers


@dataclass
class Sequence:
    """One camera: its frames in order, of which some are annotated."""

    camera: int
    truths: dict[str, ImageTruth]
    names: list[str]
    video: str = ""
    found: dict[str, Detections] = field(default_factory=dict)

    def seconds(self, name: str) -> float:
        return (frame_number(name) - 1) / FPS[self.camera]

    def images(self) -> Iterator[np.ndarray]:
        """In the order of `names`."""
        if not self.video:
            yield from (read_image(self.truths[name]) for name in self.names)
            return
        capture = cv2.VideoCapture(self.video)
        for name in self.names:
            while capture.get(cv2.CAP_PROP_POS_FRAMES) < frame_number(name) - 1:
                capture.grab()
            ok, image = capture.read()
            if not ok:
                raise UserError(f"{self.video}: frame {frame_number(name) - 1} cannot be read")
            yield image


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a data set in PRW's layout")
    parser.add_argument("--video", default="", help="all frames of c4")
    parser.add_argument("--cameras", default="1,2,3,4", help="which, with commas between")
    parser.add_argument("--bundle", default=str(REPOSITORY / "models" / "edge"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--detections", default="", metavar="FILE", help="instead of the bundle's")
    parser.add_argument("--save", default="", metavar="FILE", help="write the bundle's detections")
    parser.add_argument("--tracker", choices=["ours", *OTHERS], default="ours")
    parser.add_argument("--looks", type=float, default=None, metavar="COSINE", help="rejoin by looks")
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame: a lower frame rate")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    if given.looks is not None and given.tracker != "ours":
        raise UserError("--looks: only --tracker ours rejoins tracks")
    wanted = [int(c) for c in given.cameras.split(",") if c.strip().isdigit() and int(c) in FPS]
    if not wanted or given.every < 1:
        raise UserError(f"--cameras: expected numbers from {sorted(FPS)}, got {given.cameras!r}; --every at least 1")
    sequences = [read_sequence(given.data, camera, given.video, given.every) for camera in wanted]
    searcher = None
    if not given.detections or given.looks is not None:
        searcher = BundleSearcher(given.bundle, given.engine)
    for sequence in sequences:
        sequence.found = read_detections(given.detections, sequence) if given.detections else detect(searcher, sequence)
    if given.save:
        arrays = {}
        for sequence in sequences:
            for name, found in sequence.found.items():
                arrays[f"{name}|b"], arrays[f"{name}|s"] = found.boxes, found.scores
        np.savez_compressed(given.save, **arrays)
    figures: dict[str, Any] = {}
    for sequence in sequences:
        began = time.process_time()
        rows = follow(sequence, given.looks, searcher) if given.tracker == "ours" else others(sequence, given.tracker)
        spent = (time.process_time() - began) / len(sequence.names)
        truths = list(sequence.truths.values())
        name = f"c{sequence.camera}"
        figures[name] = score(truths, rows) | {"ms": round(1000 * spent, 2)}
        line(name, figures[name])
        corrected = [one_number_each(truth) for truth in truths]
        if any((a.identities != b.identities).any() for a, b in zip(truths, corrected, strict=True)):
            figures[f"{name} corrected"] = score(corrected, rows)
            line(f"{name} corrected", figures[f"{name} corrected"])
    if given.json:
        content = {"tracker": given.tracker, "looks": given.looks, "every": given.every, "cameras": figures}
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def line(name: str, figures: dict[str, Any]) -> None:
    print(f"{name:13s}" + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()))


def read_sequence(data: str, camera: int, video: str, every: int = 1) -> Sequence:
    truths = [t for split in ("train", "test") for t in load_prw(data, split).images if t.camera == camera]
    if not truths:
        raise UserError(f"{data}: has no frame of camera {camera}")
    truths.sort(key=lambda t: frame_number(t.name))
    names = [t.name for t in truths]
    shown = video if camera == 4 else ""
    if shown:
        capture = cv2.VideoCapture(shown)
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        if total < frame_number(names[-1]):
            raise UserError(f"{shown}: expected a video of at least {frame_number(names[-1])} frames, got {total}")
        names = [re.sub(r"\d+(?=\.)", f"{number + 1:06d}", names[0]) for number in range(total)]
    names = names[::every]
    return Sequence(camera, {t.name: t for t in truths if t.name in set(names)}, names, shown)


def read_detections(path: str, sequence: Sequence) -> dict[str, Detections]:
    try:
        with np.load(path) as arrays:
            missing = [n for n in sequence.names if f"{n}|b" not in arrays]
            if missing:
                raise UserError(f"{path}: has no detections of {len(missing)} frames, the first is {missing[0]}")
            pairs = {n: (arrays[f"{n}|b"], arrays[f"{n}|s"]) for n in sequence.names}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected an .npz file of detections ({error})") from None
    return {n: Detections(b, s, np.zeros((len(b), 0)))[s >= LEAST] for n, (b, s) in pairs.items()}


def detect(searcher: BundleSearcher, sequence: Sequence) -> dict[str, Detections]:
    return {n: searcher.detect([i], LEAST)[0] for n, i in zip(sequence.names, sequence.images(), strict=True)}


def follow(sequence: Sequence, threshold: float | None, searcher: BundleSearcher | None) -> Rows:
    tracker, rows = Tracker(TrackingSettings(), START), {}
    described = Described(tracker, threshold, searcher.embed) if threshold is not None and searcher else None
    images = sequence.images() if described else iter(())
    for name in sequence.names:
        now = sequence.seconds(name)
        tracks = tracker.update(sequence.found[name], now)
        if described:
            tracks = described.rejoined(tracks, next(images), now)
        shown = [t for t in tracks if t.confirmed]
        rows[name] = (np.array([t.box for t in shown]).reshape(-1, 4), [t.number for t in shown])
    return rows


class Described:
    """Rejoins tracks by the looks of a few good views each, as the runtime does when it describes people on demand."""

    def __init__(
        self, tracker: Tracker, threshold: float, embed: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> None:
        self.tracker, self.threshold, self.embed = tracker, threshold, embed
        self.looks: WeakKeyDictionary[Track, list[np.ndarray]] = WeakKeyDictionary()

    def rejoined(self, tracks: list[Track], image: np.ndarray, now: float) -> list[Track]:
        due = [
            t
            for t in tracks
            if not (t.low or t.doubt or t.covered > CLEAR_VIEW)
            and t.sightings >= 2 + 2 * len(self.looks.get(t, [])) ** 2
        ]
        if due:
            for track, embedding in zip(due, self.embed(image, np.array([t.box for t in due])), strict=True):
                self.looks.setdefault(track, []).append(embedding)
        new = [t for t in due if t.confirmed and len(self.looks[t]) in ASKED]
        lost = [t for t in self.tracker.lost(now) if t in self.looks]
        pairs = reunite(new, lost, self._means(new), self._means(lost), self.threshold) if new and lost else []
        for track, earlier in pairs:
            views = self.looks[earlier] + self.looks[track]
            self.tracker.rejoin(track, earlier)
            self.looks[earlier] = views
            tracks = [earlier if t is track else t for t in tracks]
        return tracks

    def _means(self, tracks: list[Track]) -> np.ndarray:
        means = np.array([np.mean(self.looks[t], axis=0) for t in tracks])
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)


def others(sequence: Sequence, name: str) -> Rows:
    """A tracker of the `trackers` package with its defaults, and our split of high and low scores."""
    try:
        import supervision
        import trackers
    except ImportError:
        raise UserError(f"--tracker {name} needs the package trackers: pip install trackers") from None
    times = [sequence.seconds(n) for n in sequence.names]
    rate = 1 / float(np.median(np.diff(times)))
    kind = getattr(trackers, OTHERS[name])
    known = inspect.signature(kind).parameters
    options = {"frame_rate": rate, "track_activation_threshold": START, "high_conf_det_threshold": START}
    if name in ("botsort",):
        options["enable_cmc"] = False  # boxes only, as for the others
    tracker, rows = kind(**{k: v for k, v in options.items() if k in known}), {}
    for frame in sequence.names:
        found = sequence.found[frame]
        seen = tracker.update(supervision.Detections(xyxy=found.boxes, confidence=found.scores))
        numbers = seen.tracker_id if seen.tracker_id is not None else np.zeros(0)
        rows[frame] = (seen.xyxy[numbers >= 0], [int(n) for n in numbers[numbers >= 0]])
    return rows


def score(truths: list[ImageTruth], rows: Rows) -> dict[str, Any]:
    """Figures over the annotated frames, by TrackEval."""
    try:
        from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError:
        raise UserError("scoring needs the package trackeval: pip install trackeval") from None
    people: dict[int, int] = {}
    tracks: dict[int, int] = {}
    gt_ids, tracker_ids, similarities = [], [], []
    for truth in truths:
        boxes, numbers = rows[truth.name]
        similarity, known = iou(truth.boxes, boxes), truth.identities >= 0
        matched = zip(*linear_sum_assignment(-np.where(similarity >= SAME_IOU, similarity, 0)), strict=True)
        ignored = [c for r, c in matched if similarity[r, c] >= SAME_IOU and not known[r]]
        kept = np.setdiff1d(np.arange(len(numbers)), ignored)
        similarities.append(similarity[known][:, kept])
        gt_ids.append(np.array([people.setdefault(int(i), len(people)) for i in truth.identities[known]], int))
        tracker_ids.append(np.array([tracks.setdefault(numbers[i], len(tracks)) for i in kept], int))
    data = {
        "gt_ids": gt_ids, "tracker_ids": tracker_ids, "similarity_scores": similarities,
        "num_gt_ids": len(people), "num_gt_dets": sum(map(len, gt_ids)), "num_timesteps": len(truths),
        "num_tracker_ids": len(tracks), "num_tracker_dets": sum(map(len, tracker_ids)),
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its settings
        hota, identity = HOTA().eval_sequence(data), Identity({"PRINT_CONFIG": False}).eval_sequence(data)
        clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    return {
        "HOTA": round(float(np.mean(hota["HOTA"])), 4), "IDF1": round(float(identity["IDF1"]), 4),
        "MOTA": round(float(clear["MOTA"]), 4), "recall": round(float(clear["CLR_Re"]), 4),
        "precision": round(float(clear["CLR_Pr"]), 4), "switches": int(clear["IDSW"]),
        "tracks": len({n for _, numbers in rows.values() for n in numbers}), "people": len(people),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
