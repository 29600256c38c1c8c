"""Does the exported graph say what the PyTorch network says? Boxes, scores and embeddings, engine by engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.engines import BundleSearcher
from personsearch.core.errors import DataError, EngineError
from personsearch.core.evaluation import Searcher
from personsearch.core.street import Street, StreetSettings

MIN_SCORE, SAME_IOU = 0.2, 0.7


@dataclass(frozen=True)
class Parity:
    """One engine against PyTorch fp32. Distances are over detections that both have (IoU >= 0.7)."""

    engine: str
    frames: int
    people: int  # detections of PyTorch with score >= 0.2
    matched: float  # share of them that the engine found too
    box_px: float  # largest box difference in pixels, 99th percentile
    score: float  # largest score difference, 99th percentile
    cosine_mean: float
    cosine_p1: float  # 1st percentile

    def row(self) -> str:
        return (
            f"{self.engine:26s} {self.people:7d} {self.matched:8.4f} {self.box_px:9.4f} {self.score:9.5f} "
            f"{self.cosine_mean:11.6f} {self.cosine_p1:10.6f}"
        )

    def to_json(self) -> dict[str, float | int | str]:
        return asdict(self)


HEADER = "engine                      people  matched    box px     score cosine mean  cosine p1"


def sample_frames(source: str = "", count: int = 24) -> list[np.ndarray]:
    """Frames to compare on: a video, a folder of images, or by default the synthetic street."""
    if not source:
        street = Street(StreetSettings(seed=101, people=8, identities=64))
        return [street.frame(i % 4, 17 * i).image for i in range(count)]
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)] if files else []
        images = [image for p in chosen if (image := cv2.imread(str(p))) is not None]
    else:
        capture = cv2.VideoCapture(source)
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        images = []
        for number in range(max(0, total)):
            if not capture.grab():
                break
            if number % max(1, total // count) == 0:
                ok, image = capture.retrieve()
                images += [image] if ok else []
    if not images:
        raise DataError(f"{source}: no image could be read; expected a folder of images or a video")
    return images[:count]


def compare(reference: Searcher, other: Searcher, frames: Sequence[np.ndarray], name: str) -> Parity:
    people, matched = 0, 0
    boxes, scores, cosines = [], [], []
    for frame in frames:
        (ours,), (theirs,) = reference.detect([frame], MIN_SCORE), other.detect([frame], MIN_SCORE * 0.5)
        people += len(ours)
        if len(ours) == 0 or len(theirs) == 0:
            continue
        overlap = iou(ours.boxes, theirs.boxes)
        partner = overlap.argmax(1)
        good = overlap[np.arange(len(ours)), partner] >= SAME_IOU
        matched += int(good.sum())
        boxes.append(np.abs(ours.boxes[good] - theirs.boxes[partner[good]]).max(1))
        scores.append(np.abs(ours.scores[good] - theirs.scores[partner[good]]))
        cosines.append((ours.embeddings[good] * theirs.embeddings[partner[good]]).sum(1))
    if not matched:
        return Parity(name, len(frames), people, 1.0 if people == 0 else 0.0, 0.0, 0.0, 0.0, 0.0)
    cosine = np.concatenate(cosines)
    return Parity(
        name, len(frames), people, matched / people,
        float(np.percentile(np.concatenate(boxes), 99)), float(np.percentile(np.concatenate(scores), 99)),
        float(cosine.mean()), float(np.percentile(cosine, 1)),
    )  # fmt: skip


def compare_engines(reference: Searcher, bundle: Path, frames: Sequence[np.ndarray]) -> list[Parity]:
    """Every engine of this machine against `reference`; engines that are not installed are left out."""
    rows = []
    for choice in ("onnxruntime", "openvino-fp32", "openvino-bf16"):
        try:
            searcher = BundleSearcher(bundle, choice)
        except (ImportError, EngineError):
            continue
        rows.append(compare(reference, searcher, frames, searcher.engine.name))
    return rows
