"""Does the exported graph say what the PyTorch network says? Boxes, scores and embeddings on frames, per engine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.errors import DataError
from personsearch.core.evaluation import Searcher
from personsearch.core.pictures import read_picture
from personsearch.core.records import Detections
from personsearch.core.street.street import Street, StreetSettings
from personsearch.core.videos import Video

MIN_SCORE, SAME_IOU = 0.2, 0.7
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class Parity:
    """A model against PyTorch fp32. Distances are over detections that both have (IoU >= 0.7)."""

    frames: int
    people: int  # detections of PyTorch with score >= 0.2
    matched: float  # share of them that the other found too
    box_px: float  # largest box difference in pixels, 99th percentile
    iou_mean: float
    iou_p1: float  # 1st percentile
    score: float  # largest score difference, 99th percentile
    cosine_mean: float
    cosine_p1: float


def sample_frames(source: str = "", count: int = 24) -> list[np.ndarray]:
    """`count` frames spread over a video or a folder of images, or by default of the synthetic street."""
    if not source:
        street = Street(StreetSettings(seed=101, people=8, identities=64))
        return [street.frame(i % 4, 17 * i).image for i in range(count)]
    path = Path(source)
    if not path.exists():
        raise DataError(f"{source}: not found; expected a folder of images or a video")
    images = []
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGES)
        positions = np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)
        for file in [files[i] for i in positions]:
            try:
                images.append(read_picture(file))
            except DataError as error:
                print(f"skipped: {error}", file=sys.stderr)
    else:
        video = Video(source)
        images = [picture.image for picture in islice(video.every(max(1, video.frames // count)), count)]
    if not images:
        raise DataError(f"{source}: no image could be read; expected a folder of images or a video")
    return images


def compare(expected: Sequence[Detections], other: Searcher, frames: Iterable[np.ndarray]) -> Parity:
    """What PyTorch detects in frames (of at least MIN_SCORE) against what another model does.

    Without a single person everything is 0, and `matched` is 1.
    """
    people, matched, count = 0, 0, 0
    boxes, overlaps, scores, cosines = [], [], [], []
    for count, (ours, frame) in enumerate(zip(expected, frames, strict=True), start=1):  # noqa: B007
        (theirs,) = other.detect([frame], MIN_SCORE * 0.5)
        people += len(ours)
        if len(ours) == 0 or len(theirs) == 0:
            continue
        overlap = iou(ours.boxes, theirs.boxes)
        partner = overlap.argmax(1)
        best = overlap[np.arange(len(ours)), partner]
        good = best >= SAME_IOU
        matched += int(good.sum())
        overlaps.append(best[good])
        boxes.append(np.abs(ours.boxes[good] - theirs.boxes[partner[good]]).max(1))
        scores.append(np.abs(ours.scores[good] - theirs.scores[partner[good]]))
        cosines.append((ours.embeddings[good] * theirs.embeddings[partner[good]]).sum(1))
    if not matched:
        return Parity(count, people, 1.0 if people == 0 else 0.0, *[0.0] * 6)
    overlap, cosine = np.concatenate(overlaps), np.concatenate(cosines)
    return Parity(
        count, people, matched / people, float(np.percentile(np.concatenate(boxes), 99)),
        float(overlap.mean()), float(np.percentile(overlap, 1)), float(np.percentile(np.concatenate(scores), 99)),
        float(cosine.mean()), float(np.percentile(cosine, 1)),
    )  # fmt: skip
