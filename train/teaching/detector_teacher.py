"""A YOLOX-layout detector as a teacher for boxes, on frames enlarged beyond the student's canvas."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.errors import DataError
from personsearch.core.openvino_core import openvino_core
from personsearch.core.preprocess import PAD_VALUE
from personsearch.train.weights.openvino_file import read_network

STRIDES, NMS_IOU = (8, 16, 32), 0.6


class DetectorTeacher:
    """A YOLOX ONNX file (class 0 = person) on any input size, because it is fully convolutional."""

    def __init__(self, path: str, width: int, min_score: float) -> None:
        """width  of the network's input in pixels, a multiple of 32; the height follows the frame"""
        read_network(path, "a YOLOX .onnx file whose class 0 is person (--detector)", DataError)
        self._core, self._path, self.width, self.min_score = openvino_core(), path, width, min_score
        self._engine: Any = None
        self._shape = (0, 0)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) BGR -> (N, 4) float32 xyxy boxes of people, best first, after NMS."""
        scale = self.width / image.shape[1]
        height = int(np.ceil(image.shape[0] * scale / 32)) * 32
        if self._shape != (height, self.width):
            model = self._core.read_model(self._path)
            try:
                model.reshape([1, 3, height, self.width])
                self._engine, self._shape = self._core.compile_model(model, "CPU"), (height, self.width)
            except RuntimeError:
                raise DataError(f"{self._path}: takes no image of any size; expected a YOLOX .onnx file") from None
        canvas = np.full((height, self.width, 3), PAD_VALUE, np.uint8)
        resized = cv2.resize(image, (self.width, round(image.shape[0] * scale)))
        canvas[: resized.shape[0]] = resized
        raw = self._engine([canvas.transpose(2, 0, 1)[None].astype(np.float32)])[0][0]
        if raw.ndim != 2 or raw.shape[1] < 6 or len(raw) != sum(height // s * (self.width // s) for s in STRIDES):
            raise DataError(f"{self._path}: gives {raw.shape}, which is not what a YOLOX detector gives")
        cells, strides = [], []
        for stride in STRIDES:
            y, x = np.mgrid[0 : height // stride, 0 : self.width // stride]
            cells.append(np.stack([x, y], -1).reshape(-1, 2))
            strides.append(np.full((cells[-1].shape[0], 1), stride))
        cell, stride_of = np.concatenate(cells), np.concatenate(strides)
        centre, size = (raw[:, :2] + cell) * stride_of, np.exp(raw[:, 2:4]) * stride_of
        scores = raw[:, 4] * raw[:, 5]
        boxes = np.concatenate([centre - size / 2, centre + size / 2], 1) / scale
        order = np.argsort(-scores)[: int((scores >= self.min_score).sum())]
        kept: list[int] = []
        overlaps = iou(boxes[order], boxes[order])
        for i in range(len(order)):
            if all(overlaps[i, j] <= NMS_IOU for j in kept):
                kept.append(i)
        return boxes[order][kept].astype(np.float32)
