"""What a gate measures of one engine: search and detection on a data set, and similarity thresholds.

Of a network that describes on demand, an engine's float32 graphs do what a running box has them do: find everybody, and
describe who counts. The rest of the proposals, whose embeddings no figure looks at, are half of the work and more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.bundle import Threshold
from personsearch.core.evaluation import Searcher
from personsearch.core.metrics import detection_scores, search_scores
from personsearch.core.records import Detections, ImageTruth
from personsearch.export.calibrate import calibrate_thresholds
from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import read_image

LEAST_SCORE = 0.01  # from here on detections count for the detection AP
SAME_PERSON_IOU = 0.5


class Finder(Searcher, Protocol):
    """A `Searcher` that can leave describing out."""

    def find(self, images: list[np.ndarray], min_score: float) -> list[Detections]:
        """As `detect`; of a network that describes on demand the embeddings have width 0."""


@dataclass(frozen=True)
class Subject:
    """A model to be measured.

    on_demand  find everybody and describe only who counts; else describe all with the graph that finds them
    """

    searcher: Finder
    on_demand: bool

    def found(self, image: np.ndarray, least: float) -> Detections:
        """Everybody of at least that score, in the frame's pixels."""
        (found,) = (self.searcher.find if self.on_demand else self.searcher.detect)([image], least)
        return found

    def described(self, image: np.ndarray, found: Detections, which: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Embeddings (n + m, D) of found[which] (n of them) and of further boxes, others (m, 4)."""
        if self.on_demand:
            return self.searcher.embed(image, np.concatenate([found.boxes[which], others]))
        own = found.embeddings[which]
        return np.concatenate([own, self.searcher.embed(image, others)]) if len(others) else own


@dataclass(frozen=True)
class Figures:
    """Search mAP, top-1 and detection AP, each in 0..1."""

    mean_ap: float
    top1: float
    detection_ap: float


def accuracy(
    subject: Subject, data: SearchData, min_score: float, progress: Callable[[Iterable], Iterable] = iter
) -> Figures:
    """Search among detections of at least `min_score`, and the detection AP over all of at least LEAST_SCORE."""
    dimensions = subject.searcher.dimensions
    found: dict[str, Detections] = {}
    queries = np.zeros((len(data.queries), dimensions), np.float32)
    for truth in progress(data.images):
        image = cached_image(truth)
        all_found = subject.found(image, min(LEAST_SCORE, min_score))
        counts = all_found.scores >= min_score
        numbers = [number for number, query in enumerate(data.queries) if query.image == truth.name]
        boxes = np.array([data.queries[n].box for n in numbers], np.float32).reshape(-1, 4)
        rows = subject.described(image, all_found, counts, boxes)
        embeddings = np.zeros((len(all_found), dimensions), np.float32)
        embeddings[counts], queries[numbers] = rows[: counts.sum()], rows[counts.sum() :]
        found[truth.name] = Detections(all_found.boxes, all_found.scores, embeddings)
    search = search_scores(data.queries, queries, data.images, found, min_score=min_score)
    return Figures(search.mean_ap, search.top_k[1], detection_scores(data.images, found).ap)


def thresholds(
    subject: Subject, data: SearchData, min_score: float, progress: Callable[[Iterable], Iterable] = iter
) -> list[Threshold]:
    """Similarity thresholds from what this engine itself says of people whom it detects."""
    embeddings, identities = [], []
    for truth in progress(data.images):
        image = cached_image(truth)
        found = subject.found(image, min_score)
        if not len(found) or not len(truth.boxes):
            continue
        overlap = iou(found.boxes, truth.boxes)
        good = overlap.max(1) >= SAME_PERSON_IOU
        embeddings.append(subject.described(image, found, good, np.zeros((0, 4), np.float32)))
        identities.append(truth.identities[overlap.argmax(1)[good]])
    if not embeddings:
        return []
    images = np.repeat(np.arange(len(identities)), [len(i) for i in identities]) if data.tracks else None
    return calibrate_thresholds(np.concatenate(embeddings), np.concatenate(identities), images)


def cached_image(truth: ImageTruth) -> np.ndarray:
    """Frames of the street are drawn once for all engines; those of a data set stay on disk."""
    return _drawn(truth.path) if "://" in truth.path else read_image(truth)


@lru_cache(maxsize=400)
def _drawn(path: str) -> np.ndarray:
    empty = np.zeros((0, 4), np.float32)
    return read_image(ImageTruth("", path, empty, np.zeros(0, np.int64)))
