"""All detections of a test set in one table, and which of them are right for a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.records import Detections, ImageTruth, Query


class SearchPool:
    """Detections of all images after each other.

    truths     the test images
    found      detections by image name; an image without an entry counts as empty
    min_score  detections below are left out

    embeddings (M, D), boxes (M, 4), image_of (M,) index of each detection's image, starts (images + 1,)
    """

    def __init__(
        self, truths: Sequence[ImageTruth], found: Mapping[str, Detections], dimensions: int, min_score: float = 0.0
    ) -> None:
        self.truths = truths
        self.index = {truth.name: i for i, truth in enumerate(truths)}
        kept = [at_least(found[t.name], min_score) if t.name in found else None for t in truths]
        counts = np.array([0 if d is None else len(d) for d in kept], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        filled = [d for d in kept if d is not None and len(d)]
        empty = Detections.empty(dimensions)
        self.embeddings = np.concatenate([d.embeddings for d in filled] or [empty.embeddings])
        self.boxes = np.concatenate([d.boxes for d in filled] or [empty.boxes])
        self.image_of = np.repeat(np.arange(len(truths)), counts)
        # One ground truth per image: should an identity be annotated twice in a picture, the first box counts.
        self._holders: dict[int, dict[int, np.ndarray]] = {}
        for i, truth in enumerate(truths):
            for identity, box in zip(truth.identities.tolist(), truth.boxes, strict=True):
                if identity >= 0:
                    self._holders.setdefault(identity, {}).setdefault(i, box)
        self._fitting: dict[int, dict[int, np.ndarray]] = {}

    def allowed(self, query: Query, gallery: Iterable[str] | None) -> np.ndarray:
        """(images,) bool: the gallery (None = all) without the query's own image."""
        allowed = np.ones(len(self.truths), bool)
        if gallery is not None:
            allowed[:] = False
            allowed[[self.index[name] for name in gallery if name in self.index]] = True
        own = self.index.get(query.image)
        if own is not None:
            allowed[own] = False
        return allowed

    def hits(self, query: Query, similarities: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, int]:
        """Indices of the true positives, and the number of ground truths.

        In an image that holds the target, detections are walked by falling similarity (earlier ones first among
        equals), and the first with IoU >= min(0.5, w*h / ((w+10)*(h+10))) is the one true positive.
        """
        if query.identity not in self._fitting:
            holders = self._holders.get(query.identity, {})
            self._fitting[query.identity] = {i: self._fit(i, box) for i, box in holders.items()}
        right, total = [], 0
        for image, fitting in self._fitting[query.identity].items():
            if allowed[image]:
                total += 1
                if len(fitting):
                    right.append(fitting[similarities[fitting].argmax()])
        return np.array(right, np.int64), total

    def _fit(self, image: int, box: np.ndarray) -> np.ndarray:
        begin, end = self.starts[image], self.starts[image + 1]
        w, h = float(box[2] - box[0]), float(box[3] - box[1])
        threshold = min(0.5, (w * h) / ((w + 10) * (h + 10)))
        return begin + np.flatnonzero(iou(self.boxes[begin:end], box[None])[:, 0] >= threshold)


def at_least(detections: Detections, min_score: float) -> Detections:
    return detections if min_score <= 0 else detections[detections.scores >= min_score]
