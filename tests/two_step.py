#!/usr/bin/env python
"""The bundle beside the two-step system that one would assemble from parts, in one run with one protocol.

    python tests/two_step.py --data PEOPLE_MOT --detector yolox_nano_coco.onnx
        --reid person-reidentification-retail-0277.xml [--bundle models/edge ...] [--frames N] [--json FILE]

The two steps: YOLOX-nano at 416x416 (working point 0.2, NMS at 0.6), then the re-identification network on the crop of
each person, 256x128, all on OpenVINO; in float32, and in bf16 where the processor has it. Accuracy is scored by the
evaluation of this project; times and their ratios to the first bundle are medians over the test frames.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from figures import save_figures
from tqdm import tqdm

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.evaluation import Searcher, run_model, score_run
from personsearch.core.metrics import not_within
from personsearch.core.openvino_core import openvino_core
from personsearch.core.records import Detections, ImageTruth, Query
from personsearch.train.data.prw import load_prw
from personsearch.train.data.samples import read_image
from personsearch.train.teaching.teacher import EmbeddingTeacher

SIDE, PAD, NMS_IOU, WORKING_POINT = 416, 114, 0.6, 0.2
TURN = 10  # frames
GAP = 50  # frames


class TwoStep:
    """Detector and re-identification network, one after the other."""

    def __init__(self, detector: str, reid: str, precision: str) -> None:
        core = openvino_core()
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self._detector = core.compile_model(core.read_model(detector), "CPU", options)
        self._reid = EmbeddingTeacher(reid, options)
        self.dimensions = 256

    def detect(self, images: Sequence[np.ndarray], min_score: float) -> list[Detections]:
        return [self._detect(image, min_score) for image in images]

    def _detect(self, image: np.ndarray, min_score: float) -> Detections:
        scale = SIDE / max(image.shape[:2])
        small = cv2.resize(image, (int(image.shape[1] * scale), int(image.shape[0] * scale)))
        canvas = np.full((SIDE, SIDE, 3), PAD, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        raw = self._detector([canvas.transpose(2, 0, 1)[None].astype(np.float32)])[0][0]
        cells, strides = _grid()
        centre, size = (raw[:, :2] + cells) * strides, np.exp(raw[:, 2:4]) * strides
        score = raw[:, 4] * raw[:, 5]  # COCO's first class is person
        kept = np.flatnonzero(score >= max(min_score, 0.01))
        corners = np.concatenate([centre - size / 2, size], 1)[kept] / scale
        kept_by_nms = cv2.dnn.NMSBoxes(corners.tolist(), score[kept].tolist(), 0.0, NMS_IOU) if len(kept) else []
        best = np.array(kept_by_nms, int).ravel()
        boxes = np.concatenate([corners[best, :2], corners[best, :2] + corners[best, 2:]], 1).reshape(-1, 4)
        return Detections(boxes, score[kept][best], self.embed(image, boxes))

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        embeddings = self._reid(image, boxes)
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    cells, strides = [], []
    for stride in (8, 16, 32):
        y, x = np.mgrid[0 : SIDE // stride, 0 : SIDE // stride]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a data set in PRW's layout")
    parser.add_argument("--detector", required=True, help="YOLOX-nano as .onnx")
    parser.add_argument("--reid", required=True, help="re-identification network as .xml or .onnx")
    parser.add_argument("--bundle", nargs="+", default=["models/edge"])
    parser.add_argument("--frames", type=int, default=0, help="test frames for the times (default: all)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    for path in (given.detector, given.reid):
        if not Path(path).is_file():
            raise UserError(f"{path}: not found")
    data = load_prw(given.data, "test")
    systems: dict[str, tuple[Searcher, float]] = {}
    for path in given.bundle:
        bundle = BundleSearcher(path)
        systems[f"{path} ({bundle.engine.name})"] = (bundle, bundle.manifest.min_score)
    for precision in ("f32", "bf16"):
        systems[f"two steps, {precision}"] = (TwoStep(given.detector, given.reid, precision), WORKING_POINT)
    rows = {name: accuracy(*system, data.images, data.queries) for name, system in systems.items()}
    step = max(1, len(data.images) // given.frames) if given.frames else 1
    spent = times(systems, data.images[::step])
    first = next(iter(spent.values()))
    for name, milliseconds in spent.items():
        rows[name]["ms a frame"] = float(np.median(milliseconds))
        rows[name]["times the first"] = float(np.median(milliseconds / first))
    names = list(next(iter(rows.values())))
    print("| system | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for name, row in rows.items():
        print(
            f"| {name} | "
            + " | ".join(f"{value:.1f}" if "ms" in k or "times" in k else f"{value:.3f}" for k, value in row.items())
            + " |"
        )
    if given.json:
        save_figures(given.json, {"systems": rows})
    return 0


def accuracy(
    searcher: Searcher, min_score: float, truths: Sequence[ImageTruth], queries: Sequence[Query]
) -> dict[str, Any]:
    run = run_model(
        searcher, truths, queries, read_image, min_score=0.01,
        progress=lambda steps: tqdm(steps, desc="accuracy", unit="batch", leave=False),
    )  # fmt: skip
    figures = score_run(run, truths, queries, min_score=min_score).figures()
    far = score_run(run, truths, queries, min_score=min_score, galleries=not_within(queries, truths, GAP))
    chosen = {name: figures[name] for name in ("mAP", "top-1", "re-ID mAP", "detection AP", "detection recall")}
    return {**chosen, f"mAP, {GAP}+ frames away": far.search.mean_ap}


def times(systems: dict[str, tuple[Searcher, float]], truths: Sequence[ImageTruth]) -> dict[str, np.ndarray]:
    """Milliseconds (frames,) of each system. They take turns every few frames, because machines change their speed."""
    images = [read_image(truth) for truth in truths]
    spent: dict[str, list[float]] = {name: [] for name in systems}
    for begin in range(0, len(images), TURN):
        for name, (searcher, min_score) in systems.items():
            searcher.detect(images[begin : begin + 1], min_score)  # the others have emptied the caches
            for image in images[begin : begin + TURN]:
                began = time.perf_counter()
                searcher.detect([image], min_score)
                spent[name].append(1e3 * (time.perf_counter() - began))
    return {name: np.array(values) for name, values in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
