#!/usr/bin/env python
"""Would it pay to look at the part of a frame that moved, at full resolution, instead of at the whole frame?

    python tests/region_gain.py --data SHARED_DATA --teacher 2003.xml [--every 10] [--json FILE]
    python tests/region_gain.py --data SHARED_DATA --shares

SHARED_DATA holds video/*.{avi,mp4} and people-mot/. The moved part is the box around all pixels that changed (the
detector of motion of `scheduling.motion`) and around everybody who is found in the frame, grown by a tenth. It is
taken where its own pixels fit the network's canvas; then whole frame and part are searched. Truth is people-mot's for
vtest.avi, and for the others what a larger detector finds in the frame and its quarters (--teacher, OpenVINO).
Said are: the share of frames with such a part, the recall of both inside it, the people outside it, and the time.
With --shares nothing is searched: it says only in how many frames what moved fits the canvas.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.bundle import read_manifest
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.metrics import frame_number
from personsearch.core.openvino_core import openvino_core
from personsearch.runtime.cameras.motion import MotionDetector, small
from personsearch.runtime.settings import default_bundle
from personsearch.train.data.prw import load_prw

GROWN, SAME_IOU, FPS = 0.1, 0.5, 10.0
FAR = 0.12  # height of a far person, as a share of the picture's
TEACHER_SCORE, CUT = 0.5, 4.0  # pixels from an edge at which somebody may be cut off


class Teacher:
    """Boxes (N, 4) of people: of those who stand within a quarter of a frame from it, of the others from the whole."""

    def __init__(self, path: Path) -> None:
        self._model = openvino_core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
        self._height, self._width = list(self._model.input(0).shape)[2:]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        parts = [(x, y, width // 2, height // 2) for y in (0, height // 2) for x in (0, width // 2)]
        parts += [(0, 0, width, height)]
        found, scores = [], []
        for x, y, w, h in parts:
            small_image = cv2.resize(image[y : y + h, x : x + w], (self._width, self._height))
            out = self._model(small_image.transpose(2, 0, 1)[None].astype(np.float32))
            boxes, labels = out["boxes"], out["labels"]
            boxes = boxes[(labels == 1) & (boxes[:, 4] >= TEACHER_SCORE)]
            edges = np.array([0, 0, self._width, self._height]) if w < width else np.full(4, -np.inf)
            boxes = boxes[(np.abs(boxes[:, :4] - edges) > CUT).all(1)]
            scale = np.array([w / self._width, h / self._height] * 2)
            found.append(boxes[:, :4] * scale + [x, y, x, y])
            scores.append(boxes[:, 4])
        boxes, scores = np.concatenate(found), np.concatenate(scores)
        kept = cv2.dnn.NMSBoxes(np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].tolist(), scores.tolist(), 0.1, 0.5)
        return boxes[np.array(kept, int).reshape(-1)].astype(np.float32)


def moved_part(detector: MotionDetector, image: np.ndarray, people: np.ndarray) -> np.ndarray | None:
    """(4,) xyxy around what moved and around people; None where the scene is new or nothing moved."""
    _, _, changed = detector._compare(small(image))
    if detector._background is None or changed.dtype != np.uint8:
        return None
    together = cv2.blur(changed, (5, 5), borderType=cv2.BORDER_CONSTANT) >= 255 * 0.4
    rows, columns = np.nonzero(together)
    height, width = image.shape[:2]
    scale = width / together.shape[1]
    corners = [people[:, :2], people[:, 2:]] if len(people) else []
    if len(rows):
        corners += [np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) * scale]
    if not corners:
        return None
    points = np.concatenate(corners)
    low, high = points.min(0), points.max(0)
    grow = GROWN * (high - low) + 16
    return np.concatenate([np.maximum(low - grow, 0), np.minimum(high + grow, [width, height])])


def shares(video: Path, canvas: np.ndarray) -> dict[str, Any]:
    """Of all frames at ten a second: how many show motion, and of how many does what moved fit the canvas (w, h)?"""
    reader, detector, number = cv2.VideoCapture(str(video)), MotionDetector(), -1
    step = max(1, round(reader.get(cv2.CAP_PROP_FPS) / FPS))
    frames = moving = fits = 0
    while reader.grab():
        number += 1
        if number % step == 0:
            image = reader.retrieve()[1]
            part = moved_part(detector, image, np.empty((0, 4), np.float32))
            frames, moving = frames + 1, moving + (part is not None)
            fits += part is not None and bool((part[2:] - part[:2] <= canvas).all())
            detector.see(image, number / step / FPS)
    return {"video": video.name, "frames": frames, "moving": moving, "fits": fits, "canvas": canvas.tolist()}


def recall(found: np.ndarray, truth: np.ndarray) -> int:
    return int((iou(truth, found).max(1) >= SAME_IOU).sum()) if len(truth) and len(found) else 0


def measure(bundle: BundleSearcher, video: Path, truths: Any, every: int) -> dict[str, Any]:
    """truths  called with number and image of a frame: boxes (N, 4), or None where nothing is known"""
    reader, detector, number = cv2.VideoCapture(str(video)), MotionDetector(), -1
    step = max(1, round(reader.get(cv2.CAP_PROP_FPS) / FPS))
    canvas = np.array([bundle.manifest.width, bundle.manifest.height])
    looked = fits = outside = 0
    right: Counter[tuple[str, str]] = Counter()
    times: dict[str, list[float]] = {"whole": [], "part": []}
    while True:
        ok, image = reader.read()
        number += 1
        if not ok:
            break
        if number % step:
            continue
        if (number // step) % every == 0 and number and (truth := truths(number, image)) is not None:
            looked += 1
            whole = _search(bundle, image, [])
            part = moved_part(detector, image, whole)
            if part is not None and (part[2:] - part[:2] <= canvas).all():
                fits += 1
                x1, y1, x2, y2 = np.round(part).astype(int)
                _search(bundle, image, times["whole"])
                corner = np.array([x1, y1, x1, y1], np.float32)
                found = corner + _search(bundle, np.ascontiguousarray(image[y1:y2, x1:x2]), times["part"])
                middle = (truth[:, :2] + truth[:, 2:]) / 2
                here = ((middle >= part[:2]) & (middle <= part[2:])).all(1)
                outside += int((~here).sum())
                far = here & (truth[:, 3] - truth[:, 1] < FAR * image.shape[0])
                for key, people in (("people", truth[here]), ("far", truth[far])):
                    right[key, "whole"] += recall(whole, people)
                    right[key, "part"] += recall(found, people)
                    right[key, "count"] += len(people)
        detector.see(image, number / step / FPS)
    return {
        "video": video.name, "frames": looked, "with_part": fits, "outside": outside,
        **{f"{who}_{what}": right[who, what] for who in ("people", "far") for what in ("count", "whole", "part")},
        **{f"{kind}_ms": 1000 * float(np.mean(values or [0])) for kind, values in times.items()},
    }  # fmt: skip


def _search(bundle: BundleSearcher, image: np.ndarray, times: list[float]) -> np.ndarray:
    began = time.process_time()
    boxes: np.ndarray = bundle.find([image])[0].boxes
    times.append(time.process_time() - began)
    return boxes


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with video/ and people-mot/")
    parser.add_argument("--shares", action="store_true", help="search nothing")
    parser.add_argument("--teacher", type=Path, help="person-vehicle-bike-detection-2003.xml")
    parser.add_argument("--every", type=int, default=10, help="frames, at ten a second, from one look to the next")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    names = ("vtest.avi", "one-by-one.mp4", "retail.mp4")
    if given.shares:
        manifest = read_manifest(default_bundle())
        for name in names:
            print(
                json.dumps(shares(given.data / "video" / name, np.array([manifest.width, manifest.height]))), flush=True
            )
        return 0
    if given.teacher is None:
        raise UserError(
            "--teacher is missing: give person-vehicle-bike-detection-2003.xml, or --shares to search nothing"
        )
    bundle, teacher = BundleSearcher(default_bundle(), "openvino", 1), Teacher(given.teacher)
    images = load_prw(given.data / "people-mot", "test").images[:: max(1, given.every // 5)]  # every fifth frame is one
    annotated = {frame_number(image.name) - 1: image.boxes for image in images}
    rows = []
    for name in names:
        truths = (lambda n, _: annotated.get(n)) if name == "vtest.avi" else (lambda _, image: teacher(image))
        every = 1 if name == "vtest.avi" else given.every
        rows.append(row := measure(bundle, given.data / "video" / name, truths, every))
        print(json.dumps(row), flush=True)
    if given.json:
        command = "python tests/region_gain.py --data DATA --teacher 2003.xml"
        Path(given.json).write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(_main))
