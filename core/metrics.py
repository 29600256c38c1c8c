"""Person search, re-ID and detection scores by the protocol that both public benchmarks use.

Vectorised over the gallery: one matrix product for all queries, work in Python only for the few images that hold the
target of a query, and no sorting: a hit's rank is the number of detections that are more similar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from personsearch.core.boxes import area, iou
from personsearch.core.records import Detections, ImageTruth, Query
from personsearch.core.search_pool import SearchPool, at_least

Rerank = Callable[[int, SearchPool, np.ndarray], None]


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

    def intervals(self, share: float = 0.95, resamples: int = 2000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Confidence intervals of mAP and top-1 by bootstrap over the queries (percentiles)."""
        count = len(self.average_precision)
        if count == 0:
            return {"mAP": (0.0, 0.0), "top-1": (0.0, 0.0)}
        rng = np.random.default_rng(seed)
        limits = [50 * (1 - share), 50 * (1 + share)]
        draws = [rng.integers(0, count, count) for _ in range(resamples)]
        values = {"mAP": self.average_precision, "top-1": (self.first_hit == 0).astype(np.float64)}
        spans = {name: np.percentile([v[draw].mean() for draw in draws], limits) for name, v in values.items()}
        return {name: (float(low), float(high)) for name, (low, high) in spans.items()}


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
    rerank: Rerank | None = None,
    chunk: int = 128,
) -> SearchScores:
    """Score a search: every query against every other image.

    query_embeddings  (Q, D) L2-normalised
    found             detections by image name; images without an entry count as empty
    galleries         optional image names per query (CUHK-SYSU's TestG*, PRW multi-view); default: all of `truths`
    min_score         detections below are left out (the published figures use 0.5)
    rerank            changes a query's similarities (M,) in place, given its number and the pool; detections outside
                      its gallery hold -inf

    The rules: see `SearchPool.hits`; the query's own image is excluded; equal similarities form one step of the
    precision-recall curve, and count in the order of images for top-k.
    """
    pool = SearchPool(truths, found, query_embeddings.shape[1], min_score)
    precisions, first_hits = np.zeros(len(queries)), np.full(len(queries), -1, dtype=np.int64)
    for begin in range(0, len(queries), chunk):
        similarities = query_embeddings[begin : begin + chunk] @ pool.embeddings.T
        for number, values in enumerate(similarities, start=begin):
            query = queries[number]
            allowed = pool.allowed(query, galleries[number] if galleries is not None else None)
            values[~allowed[pool.image_of]] = -np.inf
            if rerank is not None:
                rerank(number, pool, values)
            hits, total = pool.hits(query, values, allowed)
            if len(hits):
                precisions[number], first_hits[number] = _score(values, hits, total)
    return SearchScores(precisions, first_hits)


def _score(values: np.ndarray, hits: np.ndarray, total: int) -> tuple[float, int]:
    """Average precision x recall of hits (indices) among `values`, and the rank of the first hit."""
    steps, counts = np.unique(values[hits], return_counts=True)
    steps, right = steps[::-1], np.cumsum(counts[::-1])
    seen = np.array([np.count_nonzero(values >= step) for step in steps])
    precision = float(np.sum(counts[::-1] * right / seen)) / total
    best = hits[values[hits] == steps[0]].min()
    before = np.count_nonzero(values > steps[0]) + np.count_nonzero(values[:best] == steps[0])
    return precision, int(before)


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
        detections = at_least(detections, min_score)
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
    numbers = {t.name: frame_number(t.name) for t in truths}
    cameras = {t.name: t.camera for t in truths}
    galleries = []
    for query in queries:
        number, camera = numbers.get(query.image, 0), cameras.get(query.image)
        galleries.append([n for n, k in numbers.items() if cameras[n] != camera or abs(k - number) >= frames])
    return galleries


def other_cameras(queries: Sequence[Query], truths: Sequence[ImageTruth]) -> list[list[str]]:
    """PRW's multi-view galleries: without any frame of the query's own camera."""
    cameras = {t.name: t.camera for t in truths}
    return [[name for name, camera in cameras.items() if camera != cameras.get(q.image)] for q in queries]


def frame_number(name: str) -> int:
    """The last number in an image's name, without its ending; 0 if there is none."""
    numbers = re.findall(r"[0-9]+", name.rsplit(".", 1)[0])
    return int(numbers[-1][-18:]) if numbers else 0


def answerable(
    queries: Sequence[Query], truths: Sequence[ImageTruth], galleries: Sequence[Sequence[str]] | None = None
) -> int:
    """How many queries have their person somewhere in their gallery: with none, no search figure is defined."""
    where: dict[int, set[str]] = {}
    for truth in truths:
        for identity in truth.identities:
            where.setdefault(int(identity), set()).add(truth.name)
    count = 0
    for number, query in enumerate(queries):
        places = where.get(query.identity, set()) - {query.image}
        count += not places.isdisjoint(galleries[number]) if galleries is not None else bool(places)
    return count


def degenerate(boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: boxes without area, which loaders drop."""
    return area(boxes) <= 0
