"""A bundle that finds people in frames of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from personsearch.core.bundle import Manifest, read_manifest
from personsearch.core.engines.choice import load_engine
from personsearch.core.engines.interface import Views
from personsearch.core.errors import BundleError
from personsearch.core.preprocess import PAD_VALUE, Letterbox
from personsearch.core.records import Detections


class BundleSearcher:
    """A bundle as a `Searcher`: frames of any size in, detections in their own pixels out."""

    def __init__(self, folder: str | Path, engine: str = "auto", threads: int = 0, keep: bool = True) -> None:
        """keep  see `load_engine`"""
        self.manifest: Manifest = read_manifest(folder)
        self.engine = load_engine(folder, engine, threads, keep)
        self.letterbox = Letterbox(self.manifest.height, self.manifest.width)
        self.dimensions = self.manifest.dimensions
        self._canvas = np.zeros((self.manifest.batch, self.manifest.height, self.manifest.width, 3), np.uint8)
        self._worker: ThreadPoolExecutor | None = None
        # The one warm-up: engines allocate and choose kernels on first use. Nobody is described on an empty canvas.
        if self.manifest.describe == "demand":
            self.engine.find(self._canvas)
        else:
            self.engine.infer(self._canvas, self.manifest.least_proposal_score(self.manifest.min_score))

    def detect(self, images: Sequence[np.ndarray], min_score: float | None = None) -> list[Detections]:
        """Find and describe everybody in any number of frames; calls of the engine hold `manifest.batch` of them. Not
        safe for several threads."""
        min_score = self.manifest.min_score if min_score is None else min_score
        least = self.manifest.least_proposal_score(min_score)
        results: list[Detections] = []
        for sources in self._canvases(images):
            boxes, scores, embeddings, count = self.engine.infer(self._canvas, least, sources)
            if boxes.shape[-1] != 4 or embeddings.shape[-1] != self.dimensions:
                raise BundleError(f"the model's outputs do not fit its manifest: {boxes.shape}, {embeddings.shape}")
            for i, source in enumerate(sources):
                results.append(_detections(source, boxes[i], scores[i], embeddings[i], int(count[i]), min_score))
        return results

    def find(self, images: Sequence[np.ndarray], min_score: float | None = None) -> list[Detections]:
        """As `detect`, but a bundle that describes on demand gives embeddings of width 0: see `describe`."""
        if self.manifest.describe == "all":
            return self.detect(images, min_score)
        min_score = self.manifest.min_score if min_score is None else min_score
        results: list[Detections] = []
        for sources in self._canvases(images):
            boxes, scores, count = self.engine.find(self._canvas, sources)
            nothing = np.zeros((boxes.shape[1], 0), np.float32)
            for i, source in enumerate(sources):
                results.append(_detections(source, boxes[i], scores[i], nothing, int(count[i]), min_score))
        return results

    def describe(self, views: Views) -> np.ndarray:
        """Embeddings (N, D) of people in pictures of their own, of any size: each a picture and the box in it.

        For networks that recognise people on pixels. Engines that need a canvas see several pictures side by side.
        """
        if not len(views):
            return np.zeros((0, self.dimensions), np.float32)
        found = self.engine.describe(views)
        if found is not None:
            return found
        width = max(1, self.manifest.height // 3)  # of a cell: a person's is about a third of the height
        cells = max(1, min(self.manifest.width // width, self.manifest.embed_boxes))
        rows = []
        for begin in range(0, len(views), cells):
            canvas = np.full((1, self.manifest.height, self.manifest.width, 3), PAD_VALUE, np.uint8)
            boxes = np.zeros((1, self.manifest.embed_boxes, 4), np.float32)
            part = views[begin : begin + cells]
            for i, (picture, box) in enumerate(part):
                cell = Letterbox(self.manifest.height, width)
                filled, scale = cell(picture)
                canvas[0, :, i * width : (i + 1) * width] = filled
                boxes[0, i] = box * scale + np.array([i * width, 0] * 2, np.float32)
            rows.append(self.engine.embed(canvas, boxes)[0, : len(part)])
        return np.concatenate(rows)

    def _canvases(self, images: Sequence[np.ndarray]) -> Iterator[list[tuple[np.ndarray, float]]]:
        """Fill `_canvas` batch by batch; gives the frames in it with their scales."""
        for begin in range(0, len(images), self.manifest.batch):
            part = images[begin : begin + self.manifest.batch]
            yield [(image, self.letterbox(image, self._canvas[i])[1]) for i, image in enumerate(part)]

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


def _detections(
    source: tuple[np.ndarray, float], boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray, count: int,
    min_score: float,
) -> Detections:  # fmt: skip
    """Rows of one canvas -> detections in the frame's own pixels."""
    image, scale = source
    keep = np.flatnonzero(scores[:count] >= min_score)
    h, w = image.shape[:2]
    return Detections(np.clip(boxes[keep] / scale, 0, [w, h, w, h]), scores[keep], embeddings[keep])
