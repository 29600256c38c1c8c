"""Inference engines for a bundle behind one small interface; no PyTorch here.

An engine takes uint8 (B, H, W, 3) letterboxed BGR and gives fixed-size outputs; `BundleSearcher` turns them
into `Detections` in the pixels of the original frames.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from personsearch.core.bundle import Manifest, graph_file, read_manifest
from personsearch.core.errors import BundleError, EngineError
from personsearch.core.onnx_opset import OPSET, load_problem, onnx_opset
from personsearch.core.preprocess import Letterbox
from personsearch.core.records import Detections

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, embeddings, count
Sources = Sequence[tuple[np.ndarray, float]]  # frames uint8 (h, w, 3), and canvas pixels per pixel of the frame


class Engine(Protocol):
    name: str  # backend, device and precision, for logs and reports

    def infer(self, images: np.ndarray, min_proposal_score: float = 0.0, sources: Sources = ()) -> Outputs:
        """uint8 (B, H, W, 3) -> boxes (B, K, 4), scores (B, K), embeddings (B, K, D), count (B,).

        An engine may leave out proposals below `min_proposal_score` (`Manifest.least_proposal_score`), and it may cut
        people out of the `sources` that the images were made of, where they have more pixels.
        """

    def embed(self, images: np.ndarray, boxes: np.ndarray, sources: Sources = ()) -> np.ndarray:
        """uint8 (1, H, W, 3) and (1, E, 4) boxes on the canvas -> (1, E, D); rows of empty boxes mean nothing."""


# Backends with their precisions. The first one is what the backend's bare name means.
BACKENDS: dict[str, tuple[str, ...]] = {
    "openvino": ("auto", "fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "fp16", "int8"),
    "onnxruntime-cuda": ("fp32", "fp16", "int8"),
    "onnxruntime-tensorrt": ("fp32", "fp16", "int8"),
    "onnxruntime-rtx": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
}
ENGINES = (
    "auto",
    *(name for backend, kinds in BACKENDS.items() for name in (backend, *(f"{backend}-{p}" for p in kinds[1:]))),
)
log = logging.getLogger("personsearch.engines")


def split_choice(choice: str) -> tuple[str, str]:
    """`onnxruntime-cuda-fp16` -> `onnxruntime-cuda`, `fp16`; a bare backend has its first precision."""
    backend = max((b for b in BACKENDS if choice == b or choice.startswith(f"{b}-")), key=len)
    return backend, choice[len(backend) + 1 :] or BACKENDS[backend][0]


def load_engine(folder: str | Path, choice: str = "auto", threads: int = 0) -> Engine:
    """The engine of that name, or for `auto` the fastest that works here; the reason is logged.

    Raises EngineError where it cannot run: nothing falls back silently.
    """
    folder = Path(folder)
    if choice == "auto":
        return _choose(folder, threads)
    if choice not in ENGINES:
        raise EngineError(f"unknown engine '{choice}'; expected one of {', '.join(ENGINES)}")
    backend, precision = split_choice(choice)
    if precision != "auto" and not (folder / graph_file(precision)).is_file():
        raise EngineError(
            f"{folder}: has no {graph_file(precision)}; export the checkpoint with `--precision {precision}`"
        )
    return _load(folder, backend, precision, threads)


def _choose(folder: Path, threads: int) -> Engine:
    """A TensorRT engine built for this GPU, else CUDA, else OpenVINO, else ONNX Runtime on the CPU."""
    half = "fp16" if (folder / graph_file("fp16")).is_file() else "fp32"
    tried = []
    for backend, precision in (
        ("tensorrt", half),
        ("onnxruntime-cuda", half),
        ("openvino", "auto"),
        ("onnxruntime", "fp32"),
    ):
        try:
            engine = _load(folder, backend, precision, threads)
        except EngineError as error:
            tried.append(f"{backend}: {error}")
            continue
        log.info("engine %s: the first that works here%s", engine.name, "".join(f"; not {t}" for t in tried))
        return engine
    raise EngineError(
        f"no inference engine can run this bundle ({'; '.join(tried)}); install personsearch[cpu] or personsearch[gpu]"
    )


def _load(folder: Path, backend: str, precision: str, threads: int) -> Engine:
    if precision == "auto" and "openvino-cpu-bf16" in read_manifest(folder, verify=False).avoid:
        precision = "fp32"
    graph = folder / graph_file("fp32" if precision == "auto" else precision)
    if onnx_opset(graph) > OPSET:  # before a library sees it: OpenVINO crashed on such a file in a process with PyTorch
        raise EngineError(load_problem(graph))
    try:
        if backend == "openvino":
            from personsearch.core.engine_openvino import OpenVINOEngine

            return OpenVINOEngine(folder, precision, threads)
        if backend == "tensorrt":
            from personsearch.core.engine_tensorrt import TensorRTEngine

            return TensorRTEngine(folder, precision)
        from personsearch.core.engine_onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, backend.partition("-")[2] or "cpu", precision, threads)
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed; install personsearch[cpu] or personsearch[gpu]") from None


class BundleSearcher:
    """A bundle as a `Searcher`: frames of any size in, detections in their own pixels out."""

    def __init__(self, folder: str | Path, engine: str = "auto", threads: int = 0) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.engine = load_engine(folder, engine, threads)
        self.letterbox = Letterbox(self.manifest.height, self.manifest.width)
        self.dimensions = self.manifest.dimensions
        self._canvas = np.zeros((self.manifest.batch, self.manifest.height, self.manifest.width, 3), np.uint8)
        self._worker: ThreadPoolExecutor | None = None
        self.engine.infer(self._canvas)  # the one warm-up: engines allocate and choose kernels on first use

    def detect(self, images: Sequence[np.ndarray], min_score: float | None = None) -> list[Detections]:
        """Any number of frames; calls of the engine hold `manifest.batch` of them. Not safe for several threads."""
        min_score = self.manifest.min_score if min_score is None else min_score
        least = self.manifest.least_proposal_score(min_score)
        results: list[Detections] = []
        for begin in range(0, len(images), self.manifest.batch):
            part = images[begin : begin + self.manifest.batch]
            sources = [(image, self.letterbox(image, self._canvas[i])[1]) for i, image in enumerate(part)]
            boxes, scores, embeddings, count = self.engine.infer(self._canvas, least, sources)
            if boxes.shape[-1] != 4 or embeddings.shape[-1] != self.dimensions:
                raise BundleError(f"the model's outputs do not fit its manifest: {boxes.shape}, {embeddings.shape}")
            for i, (image, scale) in enumerate(sources):
                keep = scores[i, : int(count[i])] >= min_score
                h, w = image.shape[:2]
                found = np.clip(boxes[i, : len(keep)][keep] / scale, 0, [w, h, w, h])
                results.append(Detections(found, scores[i, : len(keep)][keep], embeddings[i, : len(keep)][keep]))
        return results

    def submit(self, images: Sequence[np.ndarray], min_score: float | None = None) -> Future[list[Detections]]:
        """`detect` in the background: capture and matching go on while the engine works, which holds no lock of
        Python's. Calls are answered in order; do not mix with `detect`, and leave the frames alone until then."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")
        return self._worker.submit(self.detect, images, min_score)

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of given boxes (N, 4) in the frame's pixels."""
        canvas, scale = self.letterbox(image)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * scale
        size, rows = self.manifest.embed_boxes, []
        for begin in range(0, len(boxes), size):
            part = boxes[begin : begin + size]
            padded = np.zeros((1, size, 4), np.float32)
            padded[0, : len(part)] = part
            rows.append(self.engine.embed(canvas[None], padded, [(image, scale)])[0, : len(part)])
        return np.concatenate(rows) if rows else np.zeros((0, self.dimensions), np.float32)
