#!/usr/bin/env python
"""What does it gain, and cost, to describe people from a camera's main stream instead of its sub-stream?

    python tests/detail_gain.py --data PEOPLE_MOT [--camera 1] [--sub 640 --sub 320] [--json FILE]

PEOPLE_MOT is a data set in PRW's layout. The camera's annotated frames become two H.264 films (a keyframe every two
seconds): one of their own size, and one so many columns wide. Each person is enrolled with their first view of at least
96 rows, from the picture itself; later views (a second and more) are described from the sub-stream, and from the main
stream as `detail_url` has it. A name is right if the most similar enrolled person is the one who is annotated.
Places come from the ground truth, so that detection does not count. Processor time is of one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from idle_cost import encode

from personsearch.core.cut_out import cut_out
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.records import ImageTruth
from personsearch.core.video_files import LocalFile
from personsearch.runtime.cameras.detail_views import DetailViews, Question, reference_of
from personsearch.runtime.cameras.kept_packets import MainStream
from personsearch.runtime.settings import default_bundle
from personsearch.train.data.prw import load_prw
from personsearch.train.data.samples import read_image

FPS = 15
LEAST_HEIGHT = 96.0  # rows of the view that somebody is enrolled with
OPTIONS = {"open_timeout_s": 5, "read_timeout_s": 5, "transport": "tcp", "url": "main.mp4"}


def enrolled(bundle: BundleSearcher, truths: list[ImageTruth]) -> tuple[dict[int, np.ndarray], dict[int, int]]:
    """A description of everybody, and the frame that it is of."""
    views: dict[int, np.ndarray] = {}
    frames: dict[int, int] = {}
    for number, truth in enumerate(truths):
        image = read_image(truth)
        for identity, box in zip(truth.identities.tolist(), truth.boxes, strict=True):
            if identity >= 0 and identity not in views and box[3] - box[1] >= LEAST_HEIGHT:
                views[identity], frames[identity] = bundle.describe([(image, box)])[0], number
    return views, frames


def compare(
    bundle: BundleSearcher, truths: list[ImageTruth], place: Path, columns: int, every: int
) -> dict[str, float]:
    images = [read_image(truth) for truth in truths]
    height, width = images[0].shape[:2]
    size = (columns, round(columns * height / width / 2) * 2)
    main, sub = place / "main.mp4", place / "sub.mp4"
    if not main.exists():
        encode(main, "libx264", (width, height), FPS, images)
    encode(sub, "libx264", size, FPS, (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images))
    gallery, since = enrolled(bundle, truths)
    names, vectors = list(gallery), np.array(list(gallery.values()))
    views = DetailViews(MainStream(str(main), OPTIONS, LocalFile(str(main))), 0.1, 0)
    video = cv2.VideoCapture(str(sub))
    ratio = np.array([size[0] / width, size[1] / height] * 2)
    right = {"sub": 0, "main": 0}
    alike: dict[str, list[float]] = {"sub": [], "main": []}
    asked = given = 0
    spent = 0.0
    for number, truth in enumerate(truths):
        _, image = video.read()
        if number % every:
            continue
        for identity, box in zip(truth.identities.tolist(), truth.boxes, strict=True):
            if identity not in gallery or number < since[identity] + FPS:
                continue
            part = cut_out(image, box * ratio)
            if part is None:
                continue
            asked += 1
            shares = np.tile(size, 2)
            question = Question({"file": number / FPS}, part.corners / shares, box * ratio / shares, size)
            began = time.process_time()
            view = views.answer(question, reference_of(part.picture)).view
            spent += time.process_time() - began
            given += view is not None
            whole = bundle.describe([(images[number], box)])[0]
            for kind, crop in (("sub", part), ("main", view or part)):
                described = bundle.describe([(crop.picture, crop.box)])[0]
                alike[kind].append(float(described @ whole))
                right[kind] += names[int(np.argmax(vectors @ described))] == identity
    return {
        "columns": columns, "enrolled": len(names), "asked": asked, "given": given,
        **{f"right_{kind}": count / asked for kind, count in right.items()},
        **{f"cosine_{kind}": float(np.mean(values)) for kind, values in alike.items()},
        "view_ms": 1000 * spent / asked, "main_ms": decode_ms(main), "sub_ms": decode_ms(sub),
    }  # fmt: skip


def decode_ms(film: Path) -> float:
    """Processor time to decode a frame, on one thread."""
    video = cv2.VideoCapture(str(film), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    began, count = time.process_time(), 0
    while video.read()[0]:
        count += 1
    return 1000 * (time.process_time() - began) / count


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a data set in PRW's layout")
    parser.add_argument("--camera", type=int, default=1)
    parser.add_argument("--sub", type=int, action="append", help="columns of a sub-stream (default: 640 and 320)")
    parser.add_argument("--every", type=int, default=10, help="frames from one that is looked at to the next")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    data = [image for split in ("train", "test") for image in load_prw(given.data, split).images]
    truths = [truth for truth in data if truth.camera == given.camera]
    if not truths:
        raise UserError(f"{given.data}: no frame of camera {given.camera}")
    bundle, rows = BundleSearcher(default_bundle(), "openvino", 1), []
    with tempfile.TemporaryDirectory() as folder:
        for columns in given.sub or [640, 320]:
            rows.append(row := compare(bundle, truths, Path(folder), columns, given.every))
            print(
                "{columns} columns: {asked} views of {enrolled} people, {given} given from the main stream; right name "
                "{right_sub:.1%} from the sub-stream, {right_main:.1%} from the main stream; cosine to the picture "
                "itself {cosine_sub:.3f} and {cosine_main:.3f}; {view_ms:.1f} ms a view, {main_ms:.1f} and "
                "{sub_ms:.1f} ms to decode a frame of the main and of the sub-stream".format(**row), flush=True,
            )  # fmt: skip
    if given.json:
        command = f"python tests/detail_gain.py --data {Path(given.data).name} --camera {given.camera}"
        Path(given.json).write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(_main))
