#!/usr/bin/env python
"""Label unlabelled video with a detector: `python train/label.py --video FILE --detector yolox.onnx --out DIR`.

Writes a data set in our JSON format (people without identities) that distillation can use. The detector is
a YOLOX-layout ONNX file; it runs on frames enlarged to `--width`, where it is better than at deployment size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from personsearch.core.boxes import iou
from personsearch.core.errors import DataError, UserError, run_main

MAX_SIDE = 1280


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", required=True, help="a video file")
    parser.add_argument("--detector", required=True, help="YOLOX ONNX file, class 0 = person")
    parser.add_argument("--out", required=True, help="a new folder for the data set")
    parser.add_argument("--every", type=int, default=4, help="use every n-th frame")
    parser.add_argument("--width", type=int, default=960, help="detector input width, a multiple of 32")
    parser.add_argument("--score", type=float, default=0.3, help="keep boxes with at least this score")
    arguments = parser.parse_args()
    if arguments.every < 1 or arguments.width < 32 or arguments.width % 32:
        raise UserError("--every must be at least 1 and --width a multiple of 32")
    from personsearch.train.json_data import Frame, Person, save_json

    out = Path(arguments.out)
    if (out / "people.json").exists():
        raise UserError(f"{out}: already holds a data set; choose a new folder")
    capture = cv2.VideoCapture(arguments.video)
    if not capture.isOpened():
        raise DataError(f"{arguments.video}: cannot be opened as a video")
    (out / "frames").mkdir(parents=True, exist_ok=True)
    detector = DetectorTeacher(arguments.detector, arguments.width)
    frames: list[Frame] = []
    for number in tqdm(range(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) or 10**9), desc="label", unit="frame"):
        ok, image = capture.read()
        if not ok:
            break
        if number % arguments.every:
            continue
        shrink = min(1.0, MAX_SIDE / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else image
        boxes = detector(image, arguments.score)
        name = f"frames/{number:06d}.jpg"
        cv2.imwrite(str(out / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        people = [Person(box=(float(x1), float(y1), float(x2 - x1), float(y2 - y1))) for x1, y1, x2, y2 in boxes]
        frames.append(Frame(file=name, people=tuple(people)))
    if not frames:
        raise DataError(f"{arguments.video}: no frame could be decoded")
    save_json(out, frames)
    print(f"{out}: {len(frames)} frames, {sum(len(f.people) for f in frames)} people")
    return 0


class DetectorTeacher:
    """A YOLOX-layout detector on any input size, because it is fully convolutional."""

    def __init__(self, path: str, width: int) -> None:
        import openvino

        self.core, self.path, self.width = openvino.Core(), path, width
        self.engine: object = None
        self.shape = (0, 0)

    def __call__(self, image: np.ndarray, min_score: float) -> np.ndarray:
        """uint8 (h, w, 3) BGR -> (N, 4) xyxy boxes of people after NMS at IoU 0.6."""
        scale = self.width / image.shape[1]
        height = int(np.ceil(image.shape[0] * scale / 32)) * 32
        if self.shape != (height, self.width):
            model = self.core.read_model(self.path)
            model.reshape([1, 3, height, self.width])
            self.engine, self.shape = self.core.compile_model(model, "CPU"), (height, self.width)
        canvas = np.full((height, self.width, 3), 114, np.uint8)
        resized = cv2.resize(image, (self.width, round(image.shape[0] * scale)))
        canvas[: resized.shape[0]] = resized
        raw = self.engine([canvas.transpose(2, 0, 1)[None].astype(np.float32)])[0][0]  # type: ignore[operator]
        cells, strides = [], []
        for stride in (8, 16, 32):
            y, x = np.mgrid[0 : height // stride, 0 : self.width // stride]
            cells.append(np.stack([x, y], -1).reshape(-1, 2))
            strides.append(np.full((cells[-1].shape[0], 1), stride))
        cell, stride_of = np.concatenate(cells), np.concatenate(strides)
        centre, size = (raw[:, :2] + cell) * stride_of, np.exp(raw[:, 2:4]) * stride_of
        scores = raw[:, 4] * raw[:, 5]
        boxes = np.concatenate([centre - size / 2, centre + size / 2], 1) / scale
        order = np.argsort(-scores)[: int((scores >= min_score).sum())]
        kept: list[int] = []
        overlaps = iou(boxes[order], boxes[order])
        for i in range(len(order)):
            if all(overlaps[i, j] <= 0.6 for j in kept):
                kept.append(i)
        return boxes[order][kept].astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
