"""Person search, re-ID and detection scores by the protocol that both public benchmarks use.

Vectorised over the gallery: one matrix product for all queries, and work in Python only for the few
images that hold the target of a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from personsearch.core.boxes import area, iou
from personsearch.core.records import Detections, ImageTruth, Query


@dataclass
class SearchScores:
    """Means over the queries; `average_precision` and `first_hit` hold one value per query.

    first_hit  rank of the first true positive, 0 = best, -1 = none
    """

    average_precision: np.ndarray
    first_hit: np.ndarray
    top_k: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for k in (1, 5, 10):
            hit = (self.first_hit >= 0) & (self.first_hit < k)
            self.top_k[k] = float(hit.mean()) if len(hit) else 0.0

    @property
    def mean_ap(self) -> float:
        return float(self.average_precision.mean()) if len(self.average_precision) else 0.0


def average_precision(hits: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall steps; equal scores form one step. 0 without a hit.

    hits    (N,) bool, is the detection a true positive
    scores  (N,) the ranking value, higher is better
    """
    if not hits.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked, values = hits[order].astype(np.float64), scores[order]
    last_of_step = np.append(values[1:] != values[:-1], True)
    true_positives = np.cumsum(ranked)[last_of_step]
    seen = np.flatnonzero(last_of_step) + 1.0
    recall = true_positives / true_positives[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * true_positives / seen))


def search_scores(
    queries: Sequence[Query],
    query_embeddings: np.ndarray,
    truths: Sequence[ImageTruth],
    found: Mapping[str, Detections],
    *,
    galleries: Sequence[Sequence[str]] | None = None,
    min_score: float = 0.0,
    chunk: int = 256,
) -> SearchScores:
    """Score a search: every query against every other image.

    query_embeddings  (Q, D) L2-normalised
    found             detections by image name; images without an entry count as empty
    galleries         optional image names per query (CUHK-SYSU's TestG*, PRW multi-view); default: all of `truths`
    min_score         detections below are left out (the published figures use 0.5)

    In a gallery image that holds the target, detections are walked by falling similarity and the first with
    IoU >= min(0.5, w*h / ((w+10)*(h+10))) is the one true positive; the query's own image is excluded.
    """
    index = {truth.name: i for i, truth in enumerate(truths)}
    kept = [_at_least(found[t.name], min_score) if t.name in found else None for t in truths]
    counts = np.array([0 if d is None else len(d) for d in kept], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    filled = [d for d in kept if d is not None and len(d)]
    dimensions = query_embeddings.shape[1]
    embeddings = np.concatenate([d.embeddings for d in filled]) if filled else np.zeros((0, dimensions), np.float32)
    holders: dict[int, list[tuple[int, np.ndarray]]] = {}
    for i, truth in enumerate(truths):
        for identity, box in zip(truth.identities, truth.boxes, strict=True):
            if identity >= 0:
                holders.setdefault(int(identity), []).append((i, box))
    gallery_sets = None
    if galleries is not None:
        gallery_sets = [
            np.array(sorted({index[n] for n in names if n in index}), dtype=np.int64) for names in galleries
        ]

    precisions, first_hits = np.zeros(len(queries)), np.full(len(queries), -1, dtype=np.int64)
    image_of = np.repeat(np.arange(len(truths)), counts)
    for begin in range(0, len(queries), chunk):
        similarities = query_embeddings[begin : begin + chunk] @ embeddings.T
        for row, query in enumerate(queries[begin : begin + chunk], start=begin):
            own = index.get(query.image, -1)
            allowed = np.ones(len(truths), bool)
            if gallery_sets is not None:
                allowed = np.zeros(len(truths), bool)
                allowed[gallery_sets[row]] = True
            if own >= 0:
                allowed[own] = False
            targets = [(i, box) for i, box in holders.get(query.identity, []) if allowed[i]]
            hits, values = np.zeros(len(embeddings), bool), similarities[row - begin]
            for i, box in targets:
                hit = _true_positive(kept[i], values[starts[i] : starts[i + 1]], box)
                if hit >= 0:
                    hits[starts[i] + hit] = True
            pool = allowed[image_of]
            pooled_hits, pooled_values = hits[pool], values[pool]
            if pooled_hits.any():
                recalled = pooled_hits.sum() / len(targets)
                precisions[row] = average_precision(pooled_hits, pooled_values) * recalled
                ranking = np.argsort(-pooled_values, kind="stable")
                first_hits[row] = int(np.argmax(pooled_hits[ranking]))
    return SearchScores(precisions, first_hits)


def _at_least(detections: Detections, min_score: float) -> Detections:
    return detections if min_score <= 0 else detections[detections.scores >= min_score]


def _true_positive(detections: Detections | None, similarities: np.ndarray, box: np.ndarray) -> int:
    if detections is None or len(detections) == 0:
        return -1
    w, h = float(box[2] - box[0]), float(box[3] - box[1])
    threshold = min(0.5, (w * h) / ((w + 10) * (h + 10)))
    fits = iou(detections.boxes, box[None])[:, 0] >= threshold
    if not fits.any():
        return -1
    order = np.argsort(-similarities, kind="stable")
    return int(order[np.argmax(fits[order])])


@dataclass(frozen=True)
class DetectionScores:
    recall: float
    ap: float  # average precision x recall, as the benchmarks report it


def detection_scores(
    truths: Sequence[ImageTruth], found: Mapping[str, Detections], *, min_score: float = 0.0, min_iou: float = 0.5
) -> DetectionScores:
    """Pedestrian detection: a detection and a box match when each is the other's best and IoU >= min_iou.

    People without a usable identity count as people.
    """
    hits, scores, total = [], [], 0
    for truth in truths:
        total += len(truth.boxes)
        detections = found.get(truth.name)
        if detections is None:
            continue
        detections = _at_least(detections, min_score)
        hit = np.zeros(len(detections), bool)
        if len(detections) and len(truth.boxes):
            overlap = iou(detections.boxes, truth.boxes)
            best_box, best_detection = overlap.argmax(1), overlap.argmax(0)
            mutual = best_detection[best_box] == np.arange(len(detections))
            hit = mutual & (overlap[np.arange(len(detections)), best_box] >= min_iou)
        hits.append(hit)
        scores.append(detections.scores)
    if not total or not hits:
        return DetectionScores(0.0, 0.0)
    all_hits, all_scores = np.concatenate(hits), np.concatenate(scores)
    recall = float(all_hits.sum() / total)
    return DetectionScores(recall, average_precision(all_hits, all_scores) * recall)


def annotated_as_detections(truth: ImageTruth, embeddings: np.ndarray) -> Detections:
    """The re-ID rows' gallery: every annotated box, unlabelled people too, with score 1."""
    return Detections(truth.boxes, np.ones(len(truth.boxes)), embeddings)


def not_within(queries: Sequence[Query], truths: Sequence[ImageTruth], frames: int) -> list[list[str]]:
    """Galleries that leave out frames of the query's camera less than `frames` away (by the number in the name)."""
    numbers = {t.name: _frame_number(t.name) for t in truths}
    cameras = {t.name: t.camera for t in truths}
    galleries = []
    for query in queries:
        number, camera = numbers[query.image], cameras[query.image]
        galleries.append([n for n, k in numbers.items() if cameras[n] != camera or abs(k - number) >= frames])
    return galleries


def _frame_number(name: str) -> int:
    digits = "".join(c if c.isdigit() else " " for c in name.rsplit(".", 1)[0]).split()
    return int(digits[-1]) if digits else 0


def degenerate(boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: boxes without area, which loaders drop."""
    return area(boxes) <= 0
