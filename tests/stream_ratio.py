#!/usr/bin/env python
"""What a whole stream costs, beside the two-step system on the same video, in one run.

    python tests/stream_ratio.py --video vtest.avi --detector yolox_nano_coco.onnx
        --reid person-reidentification-retail-0277.xml [--bundle models/edge] [--people 20] [--json FILE]

Our side is what runtime/stream.py does with a frame: find, follow, describe whom it should, decide against a gallery.
The two steps find and describe everybody in each frame and compare them with the same number of people; nothing is
followed. Both take turns every few frames. Decoding is left out. Times are of one process, in milliseconds a frame.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from figures import save_figures
from two_step import TURN, WORKING_POINT, TwoStep

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError, run_main
from personsearch.core.videos import Video
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.people import People
from personsearch.runtime.settings import StreamSettings


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", required=True)
    parser.add_argument("--detector", required=True, help="YOLOX-nano as .onnx")
    parser.add_argument("--reid", required=True, help="re-identification network as .xml or .onnx")
    parser.add_argument("--bundle", default="models/edge")
    parser.add_argument("--people", type=int, default=20, help="enrolled")
    parser.add_argument("--frames", type=int, default=0, help="of the video (default: all)")
    parser.add_argument("--precision", default="", help="f32 or bf16 (default: bf16 where the processor has it)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    for path in (given.detector, given.reid):
        if not Path(path).is_file():
            raise UserError(f"{path}: not found")
    bundle = BundleSearcher(given.bundle)
    precision = given.precision or ("bf16" if "bf16" in bundle.engine.name else "f32")
    views = np.random.default_rng(0).normal(size=(given.people, bundle.dimensions)).astype(np.float32)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    ours, described = stream(bundle, views)
    sides = {"stream": ours, "two steps": two_steps(given.detector, given.reid, precision, views)}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    waiting: list[tuple[int, float, np.ndarray]] = []
    video = Video(given.video)
    for number, _, image in islice(video.every(1), given.frames or None):
        waiting.append((number, number / (video.fps or 10.0), image))
        if len(waiting) < TURN:
            continue
        for name, step in sides.items():
            for index, (number, moment, image) in enumerate(waiting):
                began = time.perf_counter()
                step(number, moment, image)
                if index:  # the first: the other side has emptied the caches
                    spent[name].append(1e3 * (time.perf_counter() - began))
        waiting.clear()
    if not spent["stream"]:
        raise UserError(f"{given.video}: fewer than {TURN} frames")
    turns = {name: np.array(v).reshape(-1, TURN - 1).mean(1) for name, v in spent.items()}
    ratios = turns["two steps"] / turns["stream"]
    figures = {
        "engine": bundle.engine.name, "two steps in": precision, "frames": len(spent["stream"]),
        "described a frame": round(described() / len(spent["stream"]), 3),
        "stream ms": summary(spent["stream"]), "two steps ms": summary(spent["two steps"]),
        "ratio of means": round(float(np.mean(spent["two steps"]) / np.mean(spent["stream"])), 2),
        "median of the turns' ratios": round(float(np.median(ratios)), 2),
    }  # fmt: skip
    for key, value in figures.items():
        print(f"{key}: {value}")
    if given.json:
        save_figures(given.json, figures)
    return 0


def summary(milliseconds: list[float]) -> dict[str, float]:
    return {"mean": round(float(np.mean(milliseconds)), 1), "median": round(float(np.median(milliseconds)), 1),
            "p95": round(float(np.percentile(milliseconds, 95)), 1)}  # fmt: skip


def stream(bundle: BundleSearcher, views: np.ndarray) -> tuple[Callable[[int, float, np.ndarray], None], Callable]:
    """The work of the pipeline with one frame, and how many people were described so far."""
    camera = {"name": "video", "url": "video.avi", "pace": "fast"}
    settings = StreamSettings.model_validate({"cameras": [camera]})
    gallery = Gallery(bundle.manifest.model_hash, bundle.dimensions)
    for number, view in enumerate(views):
        gallery.add(f"P{number}", EnrolledView(view))
    people = People(settings, bundle.manifest, gallery, bundle.engine.name)
    people.add(settings.cameras[0])
    count = [0]

    def step(number: int, moment: float, image: np.ndarray) -> None:
        size = (image.shape[1], image.shape[0])
        frame = Frame("video", image, number, 0.0, moment, moment, picture_size=size, moment=moment)
        people.see(frame, bundle.find([image], people.least_score)[0])
        asked = people.choose(["video"], moment)
        if asked:
            people.learn(asked, bundle.describe([(want.picture, want.box) for _, want in asked]))
            count[0] += len(asked)
        people.decide("video")

    return step, lambda: count[0]


def two_steps(detector: str, reid: str, precision: str, views: np.ndarray) -> Callable[[int, float, np.ndarray], None]:
    system = TwoStep(detector, reid, precision)

    def step(number: int, moment: float, image: np.ndarray) -> None:
        (found,) = system.detect([image], WORKING_POINT)
        (found.embeddings @ views.T).max(1, initial=-1.0)

    return step


if __name__ == "__main__":
    sys.exit(main())
