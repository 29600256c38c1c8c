#!/usr/bin/env python
"""How good an archive's visits are: of one person each, few a person, and found by his picture.

    python tests/archive_visits.py --data PEOPLE_MOT [--video vtest.avi] [--describe KEY=VALUE ...]
        [--json FILE]

PEOPLE_MOT is a data set in PRW's layout with c1 (MOT16-11, 30 fps), c3 (KITTI-17, 10) and c4 (PETS09-S2L1, 10), whose
numbers tell the time; --video is c4 whole. Each camera's frames become a video, which the real command indexes in one
segment at 10 pictures a second. The kept views of a visit are looked up in the annotated frames.

one person   of the visits with two such views or more: those whose views all show one person
pieces       visits a person who has any
mAP, first   people are searched by three annotated pictures each (80 rows or higher, not covered): how far ahead their
             visits are among all, and how often one of them is the first
--describe: keys of that section of cams.yaml, for comparison with other settings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from ground_truth import one_number_each
from pyarrow import parquet
from split_camera import write_video
from tracking import FPS, SAME_IOU

from personsearch.core.boxes import iou
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.metrics import average_precision, frame_number
from personsearch.core.records import ImageTruth
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.history.index_search import search_index
from personsearch.runtime.history.searching import Range
from personsearch.train.data.prw import load_prw
from personsearch.train.data.samples import read_image

REPOSITORY = Path(__file__).resolve().parent.parent
TALL, CLEAR = 80, 0.15
SOON_S, BETWEEN_S = 0.02, 0.6  # of an annotated frame, and apart: between such two people went straight on
FEWEST, PLACES = 10, (0.1, 0.5, 0.9)  # pictures of somebody who is searched, and which of them are taken


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a data set in PRW's layout")
    parser.add_argument("--video", default="", help="all frames of c4; without it that camera is left out")
    parser.add_argument("--bundle", default=str(REPOSITORY / "models" / "edge"))
    parser.add_argument("--describe", nargs="*", default=[], metavar="KEY=VALUE", help="settings of cams.yaml")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    searcher, figures = BundleSearcher(given.bundle), {}
    truths = [one_number_each(t) for split in ("train", "test") for t in load_prw(given.data, split).images]
    for camera in (4, 1, 3) if given.video else (1, 3):
        frames = sorted((t for t in truths if t.camera == camera), key=lambda t: frame_number(t.name))
        if not frames:
            raise UserError(f"{given.data}: has no frame of camera {camera}")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            first = 1 if camera == 4 else frame_number(frames[0].name)
            video = Path(given.video) if camera == 4 else folder / "c.avi"
            if camera != 4:
                write_video(video, without_gaps(frames), FPS[camera])
            report = index(video, folder / "out", given)
            times = {(frame_number(t.name) - first) / FPS[camera]: t for t in frames}
            figures[f"c{camera}"] = report | score(folder / "out", times, frames, searcher)
        print(f"c{camera} ", "  ".join(f"{key} {value}" for key, value in figures[f"c{camera}"].items()), flush=True)
    if given.json:
        command = f"python tests/archive_visits.py --data {Path(given.data).name}"
        command += f" --video {Path(given.video).name}" if given.video else ""
        command += f" --describe {' '.join(given.describe)}" if given.describe else ""
        content = {"command": command, "machine": f"{len(os.sched_getaffinity(0))} cores, no GPU", **figures}
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def without_gaps(frames: list[ImageTruth]) -> list[ImageTruth]:
    """In the place of each that is missing the one before."""
    by_number, whole = {frame_number(t.name): t for t in frames}, [frames[0]]
    for number in range(min(by_number) + 1, max(by_number) + 1):
        whole.append(by_number.get(number, whole[-1]))
    return whole


def index(video: Path, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, REPOSITORY / "archive" / "index.py", "--videos", video, "--out", out, "--camera", "a",
               "--workers", "1", "--segment-s", "3600", "--bundle", given.bundle]  # fmt: skip
    if given.describe:
        describe = dict(pair.split("=", 1) for pair in given.describe)
        cams = {"cameras": [{"name": "a", "url": "x"}], "describe": {k: float(v) for k, v in describe.items()}}
        out.with_name("cams.yaml").write_text(json.dumps(cams), encoding="utf-8")
        command += ["--cams", out.with_name("cams.yaml")]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    report = json.loads((out / "report.json").read_bytes())
    return {key: report[key] for key in ("pictures_analysed", "people_described", "visits")}


def score(
    out: Path, times: dict[float, ImageTruth], frames: list[ImageTruth], searcher: BundleSearcher
) -> dict[str, Any]:
    seen = people_of_visits(out, times)
    owners = {visit: Counter(people).most_common(1)[0][0] for visit, people in seen.items() if people}
    several = [people for people in seen.values() if len(people) > 1]
    pieces = Counter(owner for owner in owners.values() if owner >= 0)
    ranks = [ranking(out, person, vector, owners, searcher) for person, vector in queries(frames, searcher)]
    return {
        "several_views": len(several),
        "one_person": round(sum(len(set(people)) == 1 for people in several) / max(1, len(several)), 3),
        "people": len(pieces), "pieces": round(sum(pieces.values()) / max(1, len(pieces)), 2), "queries": len(ranks),
        "mAP": round(float(np.mean([precision for precision, _ in ranks])), 3),
        "first": round(float(np.mean([first for _, first in ranks])), 3),
    }  # fmt: skip


def people_of_visits(out: Path, times: dict[float, ImageTruth]) -> dict[str, list[int]]:
    """By visit: who is in its views, as far as the annotation tells; -2 for somebody without an identity."""
    moments, seen = np.array(list(times)), {}
    for path in out.glob("visits/*/*.parquet"):
        for row in parquet.read_table(path).to_pylist():
            people = seen[row["visit"]] = []
            begun = row["view_times"][0] - row["video_s"]  # the best view has both times
            for at, box in zip(row["view_times"], row["view_boxes"], strict=True):
                boxes, identities = truth_at(at - begun, moments, times)
                overlap = iou(np.array(box, np.float32).reshape(1, 4), boxes)[0]
                if overlap.max(initial=0) >= SAME_IOU:
                    people.append(int(identities[overlap.argmax()]))
    return seen


def truth_at(second: float, moments: np.ndarray, times: dict[float, ImageTruth]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) and identities (N,) there: of an annotated frame, or of those who are in the two around it."""
    after = min(int(np.searchsorted(moments, second - SOON_S)), len(moments) - 1)
    before = max(0, after - 1)
    begin, end = float(moments[before]), float(moments[after])
    one, two = times[begin], times[end]
    if abs(end - second) <= SOON_S:
        return two.boxes, two.identities
    if not begin < second < end or end - begin > BETWEEN_S:
        return np.zeros((0, 4), np.float32), np.zeros(0, int)
    known, first, last = np.intersect1d(one.identities, two.identities, return_indices=True)
    share = (second - begin) / (end - begin)
    boxes = (1 - share) * one.boxes[first] + share * two.boxes[last]
    return boxes[known >= 0], known[known >= 0]


def queries(frames: list[ImageTruth], searcher: BundleSearcher) -> list[tuple[int, np.ndarray]]:
    """Who is searched, and by which embedding (D,)."""
    clear = defaultdict(list)
    for truth in frames:
        others = iou(truth.boxes, truth.boxes) - np.eye(len(truth.boxes), dtype=np.float32)
        for box, person, covered in zip(truth.boxes, truth.identities, others.max(1, initial=0), strict=True):
            if person >= 0 and covered < CLEAR and box[3] - box[1] >= TALL:
                clear[int(person)].append((truth, box))
    chosen = [(p, *shown[int(place * len(shown))]) for p, shown in clear.items() if len(shown) >= FEWEST
              for place in PLACES]  # fmt: skip
    return [(person, searcher.describe([(read_image(truth), box)])[0]) for person, truth, box in chosen]


def ranking(
    out: Path, person: int, vector: np.ndarray, owners: dict[str, int], searcher: BundleSearcher
) -> tuple[float, bool]:
    """Average precision of a person's visits among all whose person is known, and whether the first is one of them."""
    manifest = searcher.manifest
    odds = odds_of(manifest, searcher.engine.name)
    query = [EnrolledView(vector, "query")]
    found = search_index(out, query, manifest.model_hash, Range(), lambda _: None, lambda _: odds, limit=1000)
    hits = [hit for hit in found.hits if hit.sighting in owners]
    right = np.array([owners[hit.sighting] == person for hit in hits], bool)
    return average_precision(right, np.array([hit.similarity for hit in hits])), bool(right[:1].any())


if __name__ == "__main__":
    sys.exit(main())
