"""Inference engines for a bundle behind one small interface; no PyTorch here.

An engine takes uint8 (B, H, W, 3) letterboxed BGR and gives fixed-size outputs; `BundleSearcher` turns them
into `Detections` in the pixels of the original frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from personsearch.core.bundle import Manifest, read_manifest
from personsearch.core.errors import BundleError, EngineError
from personsearch.core.preprocess import Letterbox
from personsearch.core.records import Detections

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, embeddings, count


class Engine(Protocol):
    name: str  # backend, device and precision, for logs and reports

    def infer(self, images: np.ndarray) -> Outputs:
        """uint8 (B, H, W, 3) -> boxes (B, K, 4), scores (B, K), embeddings (B, K, D), count (B,)."""

    def embed(self, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """uint8 (1, H, W, 3) and (1, E, 4) boxes on the canvas -> (1, E, D)."""


ENGINES = (
    "auto",
    "openvino",
    "openvino-fp32",
    "openvino-bf16",
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
)


def load_engine(folder: str | Path, choice: str = "auto", threads: int = 0) -> Engine:
    """`auto`: CUDA if ONNX Runtime really has it, else OpenVINO, else ONNX Runtime on the CPU."""
    folder = Path(folder)
    if choice not in ENGINES:
        raise EngineError(f"unknown engine '{choice}'; expected one of {', '.join(ENGINES)}")
    if choice.startswith("onnxruntime"):
        return _onnxruntime(folder, choice.partition("-")[2] or "cpu", threads)
    if choice.startswith("openvino"):
        return _openvino(folder, choice.partition("-")[2] or "auto", threads)
    for attempt in (
        lambda: _onnxruntime(folder, "cuda", threads),
        lambda: _openvino(folder, "auto", threads),
        lambda: _onnxruntime(folder, "cpu", threads),
    ):
        try:
            return attempt()
        except (ImportError, EngineError) as error:
            reason = error
    raise EngineError(
        f"no inference engine can run this bundle ({reason}); install personsearch[cpu] or personsearch[gpu]"
    )


def _openvino(folder: Path, precision: str, threads: int) -> Engine:
    from personsearch.core.engine_openvino import OpenVINOEngine

    try:
        return OpenVINOEngine(folder, precision, threads)
    except ImportError:
        raise EngineError("openvino is not installed; install personsearch[cpu], or choose another engine") from None


def _onnxruntime(folder: Path, device: str, threads: int) -> Engine:
    from personsearch.core.engine_onnxruntime import OnnxRuntimeEngine

    try:
        return OnnxRuntimeEngine(folder, device, threads)
    except ImportError:
        raise EngineError("onnxruntime is not installed; install personsearch[cpu] or personsearch[gpu]") from None


class BundleSearcher:
    """A bundle as a `Searcher`: frames of any size in, detections in their own pixels out."""

    def __init__(self, folder: str | Path, engine: str = "auto", threads: int = 0) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.engine = load_engine(folder, engine, threads)
        self.letterbox = Letterbox(self.manifest.height, self.manifest.width)
        self.dimensions = self.manifest.dimensions
        self._canvas = np.zeros((self.manifest.batch, self.manifest.height, self.manifest.width, 3), np.uint8)

    def detect(self, images: Sequence[np.ndarray], min_score: float | None = None) -> list[Detections]:
        """Any number of frames; calls of the engine hold `manifest.batch` of them. Not safe for several threads."""
        min_score = self.manifest.min_score if min_score is None else min_score
        results: list[Detections] = []
        for begin in range(0, len(images), self.manifest.batch):
            part = images[begin : begin + self.manifest.batch]
            scales = [self.letterbox(image, self._canvas[i])[1] for i, image in enumerate(part)]
            boxes, scores, embeddings, count = self.engine.infer(self._canvas)
            if boxes.shape[-1] != 4 or embeddings.shape[-1] != self.dimensions:
                raise BundleError(f"the model's outputs do not fit its manifest: {boxes.shape}, {embeddings.shape}")
            for i, (image, scale) in enumerate(zip(part, scales, strict=True)):
                keep = scores[i, : int(count[i])] >= min_score
                h, w = image.shape[:2]
                found = np.clip(boxes[i, : len(keep)][keep] / scale, 0, [w, h, w, h])
                results.append(Detections(found, scores[i, : len(keep)][keep], embeddings[i, : len(keep)][keep]))
        return results

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of given boxes (N, 4) in the frame's pixels."""
        canvas, scale = self.letterbox(image)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * scale
        size, rows = self.manifest.embed_boxes, []
        for begin in range(0, len(boxes), size):
            part = boxes[begin : begin + size]
            padded = np.zeros((1, size, 4), np.float32)
            padded[0, : len(part)] = part
            rows.append(self.engine.embed(canvas[None], padded)[0, : len(part)])
        return np.concatenate(rows) if rows else np.zeros((0, self.dimensions), np.float32)
