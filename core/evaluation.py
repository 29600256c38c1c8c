"""Run any model over a test set and score it: the loop that training, export and `evaluate.py` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from personsearch.core.files import replace_file
from personsearch.core.metrics import (
    DetectionScores,
    Rerank,
    SearchScores,
    annotated_as_detections,
    detection_scores,
    search_scores,
)
from personsearch.core.records import Detections, ImageTruth, Query

REPORTED_SCORE = 0.5  # published search figures use detections with at least this score


class Searcher(Protocol):
    """What a model must offer: a PyTorch network and a bundle both do."""

    dimensions: int

    def detect(self, images: Sequence[np.ndarray], min_score: float) -> list[Detections]:
        """uint8 (h, w, 3) BGR frames -> detections in the frames' own pixels."""

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of given boxes (N, 4) of one frame."""


@dataclass
class Run:
    """A model's raw output on a test set."""

    found: dict[str, Detections]  # by image name
    annotated: dict[str, np.ndarray]  # embeddings of the annotated boxes, by image name
    queries: np.ndarray  # (Q, D)

    def save(self, path: str | Path) -> None:
        """Write what other code needs to score the run; see `train/evaluate.py --dump`. Raises OSError."""
        arrays = {"queries": self.queries}
        for name, detections in self.found.items():
            stem = name.rsplit(".", 1)[0]
            arrays[f"{stem}__boxes"] = detections.boxes
            arrays[f"{stem}__scores"] = detections.scores
            arrays[f"{stem}__emb"] = detections.embeddings
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        replace_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Report:
    search: SearchScores
    re_id: SearchScores
    detection: DetectionScores

    def figures(self) -> dict[str, float]:
        return {
            "mAP": self.search.mean_ap,
            "top-1": self.search.top_k[1],
            "top-5": self.search.top_k[5],
            "top-10": self.search.top_k[10],
            "re-ID mAP": self.re_id.mean_ap,
            "re-ID top-1": self.re_id.top_k[1],
            "detection AP": self.detection.ap,
            "detection recall": self.detection.recall,
        }


def run_model(
    searcher: Searcher,
    truths: Sequence[ImageTruth],
    queries: Sequence[Query],
    read: Callable[[ImageTruth], np.ndarray],
    *,
    min_score: float = 0.0,
    batch: int = 4,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Run:
    """Detect in every image, and embed the annotated boxes and the queries."""
    found, annotated = {}, {}
    query_rows: dict[int, np.ndarray] = {}
    by_image: dict[str, list[int]] = {}
    for number, query in enumerate(queries):
        by_image.setdefault(query.image, []).append(number)
    for begin in progress(range(0, len(truths), batch)):
        part = truths[begin : begin + batch]
        images = [read(truth) for truth in part]
        for truth, image, detections in zip(part, images, searcher.detect(images, min_score), strict=True):
            found[truth.name] = detections
            numbers = by_image.get(truth.name, [])
            boxes = [truth.boxes.reshape(-1, 4), *(queries[n].box[None] for n in numbers)]
            embeddings = searcher.embed(image, np.concatenate(boxes).astype(np.float32))
            annotated[truth.name] = embeddings[: len(truth.boxes)]
            for number, row in zip(numbers, embeddings[len(truth.boxes) :], strict=True):
                query_rows[number] = row
    rows = [query_rows.get(n, np.zeros(searcher.dimensions, np.float32)) for n in range(len(queries))]
    return Run(found, annotated, np.array(rows, np.float32).reshape(-1, searcher.dimensions))


def score_run(
    run: Run,
    truths: Sequence[ImageTruth],
    queries: Sequence[Query],
    *,
    min_score: float = REPORTED_SCORE,
    galleries: Sequence[Sequence[str]] | None = None,
    rerank: Rerank | None = None,
) -> Report:
    """Search, re-ID and detection scores. `min_score` limits search; detection figures use all of the run."""
    marked = {t.name: annotated_as_detections(t, run.annotated[t.name]) for t in truths if t.name in run.annotated}
    return Report(
        search_scores(queries, run.queries, truths, run.found, min_score=min_score, galleries=galleries, rerank=rerank),
        search_scores(queries, run.queries, truths, marked, galleries=galleries),
        detection_scores(truths, run.found),
    )


def cosine_of_different_people(run: Run, truths: Sequence[ImageTruth]) -> float:
    """Mean cosine of annotated people with different identities: near 1, the embeddings have collapsed."""
    named = [(run.annotated[t.name][t.identities >= 0], t.identities[t.identities >= 0]) for t in truths]
    if not named:
        return 0.0
    embeddings, identities = (np.concatenate(part) for part in zip(*named, strict=True))
    different = identities[:, None] != identities[None]
    return float((embeddings @ embeddings.T)[different].mean()) if different.any() else 0.0
